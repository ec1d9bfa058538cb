"""MLX (`mlx_lm.server`): chat with models in Apple's format, here on Linux with its CPU and CUDA builds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from launchers import devices, programs, sources
from launchers.base import Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Recipe, Refusal
from launchers.flags import value

Meta = msgspec.Meta
Size = Annotated[int, Meta(ge=1)]


class MlxOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of mlx_lm. What is not set is left to it; any other flag of `mlx_lm.server` goes into `args`."""

    max_tokens: Annotated[
        Size | None, Meta(description="Tokens of an answer where the request does not say. mlx_lm's own default: 512.")
    ] = None
    decode_concurrency: Annotated[
        Size, Meta(description="Requests that are computed at the same time; those with a `seed` are alone.")
    ] = 32
    prompt_concurrency: Annotated[Size | None, Meta(description="Prompts that are read at the same time.")] = None
    prefill_step_size: Annotated[Size | None, Meta(description="Tokens of a prompt that are computed in one step.")] = (
        None
    )
    prompt_cache_size: Annotated[
        Size | None, Meta(description="Prompts whose KV cache is kept, to be reused by the next that begins alike.")
    ] = None
    prompt_cache_bytes: Annotated[
        Size | None, Meta(description="Memory for those KV caches in bytes. Not set: no limit.")
    ] = None
    kv_bits: Annotated[
        Literal[2, 3, 4, 6, 8] | None,
        Meta(description="Quantise the KV cache to so many bits; requests are then computed one by one."),
    ] = None
    adapter_path: Annotated[
        str | None, Meta(description="Folder of a trained adapter that the model is served with.")
    ] = None
    draft_model: Annotated[
        str | None, Meta(description="A small model of the same family that guesses tokens ahead; one by one then.")
    ] = None
    num_draft_tokens: Annotated[Size | None, Meta(description="Tokens that the draft model guesses at a time.")] = None
    trust_remote_code: Annotated[
        bool, Meta(description="Run Python code that comes with the model. Only for models you trust.")
    ] = False


SERVED = "default_model"
"""The only name that is not looked for, downloaded and loaded."""
_PATHS = {path: path for path in ("/v1/chat/completions", "/v1/completions")}
_MEMBERS = (
    "frequency_context_size frequency_penalty logit_bias logprobs max_completion_tokens max_tokens min_p model "
    "presence_context_size presence_penalty repetition_context_size repetition_penalty seed stop stream stream_options "
    "temperature top_k top_logprobs top_p xtc_probability xtc_threshold num_draft_tokens chat_template_kwargs"
)
# All that mlx_lm 0.32.2 reads, but `draft_model` and `adapters`, with which a client could have any model loaded.
_TAKES: Mapping[str, frozenset[str]] = {
    "/v1/chat/completions": frozenset(f"{_MEMBERS} messages tools role_mapping".split()),
    "/v1/completions": frozenset(f"{_MEMBERS} prompt".split()),
}
_HEALTH = Probe("/health")
# `/health` is 200 before the model is loaded, and requests wait for that. 404 is all that it knows of failures.
_TOKEN = msgspec.json.encode({"model": SERVED, "prompt": "Hi", "max_tokens": 1})
_READY = Probe("/v1/completions", body=_TOKEN, never=(404,), patience=86400)


class Mlx:
    name = "mlx"
    summary = "mlx_lm.server: models in MLX's format"
    Options: type[msgspec.Struct] = MlxOptions
    kinds: tuple[Kind, ...] = ("chat",)
    default_kind: Kind = "chat"
    recipes: Mapping[str, Recipe] = {
        "gpu": Recipe(lock="mlx.lock", check="bin/mlx_lm.server"),
        "cpu": Recipe(lock="mlx-cpu.lock", check="bin/mlx_lm.server"),
    }

    def find(self, places: Sequence[Path], options: MlxOptions) -> Program | None:  # noqa: ARG002
        found = programs.find(places, "mlx_lm.server")
        return Program((str(found),)) if found else None

    def command(self, launch: Launch) -> Command:
        options: MlxOptions = launch.options
        return Command(
            argv=(*launch.program.argv, "--model", _model(launch), *_flags(launch, options), *launch.args),
            env={"PYTHONUNBUFFERED": "1", **devices.visible(launch.gpus, launch.accelerator)},
            # The first three make it one of several processes, and wait for the others.
            scrub=("MLX_RANK", "MLX_HOSTFILE", "MLX_WORLD_SIZE", "MLXLM_USE_MODELSCOPE", "PYTHONHOME", "PYTHONPATH"),
            readiness=_READY,
            liveness=_HEALTH,
            served=SERVED,
            paths=_PATHS,
            keep_alive=KeepAlive(idle=0, requests=1),  # HTTP/1.0
            # What waits inside is not let go of when its client leaves.
            concurrency=options.decode_concurrency,
            # A null is one of a wrong type: 400.
            dialect=Dialect(takes=_TAKES, nulls=False, counts=True),
        )


def _model(launch: Launch) -> str:
    if launch.lora:
        raise Refusal("lora", "mlx_lm serves one adapter, in place of the model", "use options.adapter_path")
    return sources.folder_or_id(launch, "mlx_lm")


def _flags(launch: Launch, options: MlxOptions) -> list[str]:
    return [
        *("--host", launch.host, "--port", str(launch.port)),
        *("--decode-concurrency", str(options.decode_concurrency)),
        *value("--prompt-concurrency", options.prompt_concurrency),
        *value("--max-tokens", options.max_tokens),
        *value("--prefill-step-size", options.prefill_step_size),
        *value("--prompt-cache-size", options.prompt_cache_size),
        *value("--prompt-cache-bytes", options.prompt_cache_bytes),
        *value("--kv-bits", options.kv_bits),
        *value("--adapter-path", options.adapter_path),
        *value("--draft-model", options.draft_model),
        *value("--num-draft-tokens", options.num_draft_tokens),
        *(["--trust-remote-code"] if options.trust_remote_code else []),
    ]

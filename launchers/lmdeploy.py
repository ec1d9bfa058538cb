"""LMDeploy (`lmdeploy serve api_server`): chat on GPUs, by its TurboMind engine or its PyTorch one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from launchers import devices, keyed, parallel, sources
from launchers.base import Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Recipe, Refusal
from launchers.flags import value
from launchers.kinds import same

Meta = msgspec.Meta
Size = Annotated[int, Meta(ge=1)]


class LmdeployOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of LMDeploy. What is not set is left to it; any other flag of `lmdeploy serve api_server` goes into
    `args`."""

    backend: Annotated[
        Literal["turbomind", "pytorch"] | None,
        Meta(description="What computes. Not set: turbomind, or pytorch for a model that it lacks, and for `lora`."),
    ] = None
    tensor_parallel_size: Annotated[
        Size | None, Meta(description="GPUs that share each layer. Not set: all GPUs of the model.")
    ] = None
    session_len: Annotated[
        Size | None, Meta(description="Context length in tokens, prompt and answer together. Not set: the model's own.")
    ] = None
    max_batch_size: Annotated[Size | None, Meta(description="Requests that are computed at the same time.")] = None
    cache_max_entry_count: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="Share of the GPU memory that the weights leave free (0 to 1) for the KV cache."),
    ] = None
    max_prefill_token_num: Annotated[Size | None, Meta(description="Prompt tokens computed in one step.")] = None
    enable_prefix_caching: Annotated[
        bool, Meta(description="Reuse the KV cache of a prompt's beginning that was seen before.")
    ] = False
    quant_policy: Annotated[
        Literal["none", "int4", "int8", "fp8", "fp8_e5m2"] | None,
        Meta(description="Number format of the KV cache; int8 halves its memory, int4 quarters it."),
    ] = None
    dtype: Annotated[
        Literal["auto", "float16", "bfloat16"] | None, Meta(description="Number format of weights and activations.")
    ] = None
    model_format: Annotated[
        Literal["hf", "awq", "gptq", "compressed-tensors", "fp8", "mxfp4"] | None,
        Meta(description="How the weights are quantised. Not set: what the model says."),
    ] = None
    tool_call_parser: Annotated[
        str | None, Meta(description="Parser of the model's tool calls (internlm, qwen3, llama3, …).")
    ] = None
    reasoning_parser: Annotated[
        str | None, Meta(description="Parser that separates the model's reasoning from its answer (qwen-qwq, …).")
    ] = None
    chat_template: Annotated[
        str | None, Meta(description="Name of a chat template of LMDeploy's, or a JSON file with one.")
    ] = None
    revision: Annotated[str | None, Meta(description="Branch, tag or commit of the model's repository.")] = None
    trust_remote_code: Annotated[
        bool, Meta(description="Run Python code that comes with the model. Only for models you trust.")
    ] = False


_PATHS: Mapping[Kind, Mapping[str, str]] = {"chat": same("/v1/chat/completions", "/v1/completions", "/v1/responses")}
_SCRUB = ("LMDEPLOY_USE_MODELSCOPE", "UVICORN_TIMEOUT_KEEP_ALIVE", "PYTHONHOME", "PYTHONPATH")
# 503 while it is `initializing` or `unhealthy`.
_HEALTH = Probe("/health")


class Lmdeploy:
    name = "lmdeploy"
    summary = "LMDeploy: chat models on GPUs, quick with quantised ones"
    Options: type[msgspec.Struct] = LmdeployOptions
    kinds: tuple[Kind, ...] = ("chat",)
    default_kind: Kind = "chat"
    recipes: Mapping[str, Recipe] = {"gpu": Recipe(lock="lmdeploy.lock", check="bin/lmdeploy")}

    def find(self, places: Sequence[Path], options: LmdeployOptions) -> Program | None:  # noqa: ARG002
        return keyed.find(places, "lmdeploy")

    def command(self, launch: Launch) -> Command:
        model = sources.folder_or_id(launch, "LMDeploy", modelscope=True)
        program = keyed.argv(launch.program, "--api-keys")
        return Command(
            # MODEL first: flags that take several values would swallow it.
            argv=(*program, "serve", "api_server", model, *_flags(launch), *launch.args),
            env=_env(launch),
            scrub=_SCRUB,
            readiness=_HEALTH,
            liveness=_HEALTH,
            served=launch.name,
            paths=_PATHS[launch.kind],
            keep_alive=KeepAlive(idle=110),
            names={name: name for name in launch.lora},
            dialect=Dialect(nulls=False, counts=True, aborts=True),
        )


def _env(launch: Launch) -> dict[str, str]:
    modelscope = {"LMDEPLOY_USE_MODELSCOPE": "True"} if launch.source.where == "modelscope" else {}
    return {
        "UVICORN_TIMEOUT_KEEP_ALIVE": "120",
        keyed.KEY_VARIABLE: launch.key,
        **devices.visible(launch.gpus, launch.accelerator),
        **modelscope,
    }


def _flags(launch: Launch) -> list[str]:
    options: LmdeployOptions = launch.options
    return [
        *("--model-name", launch.name, "--server-name", launch.host, "--server-port", str(launch.port)),
        *_engine(launch, options),
        *value("--tp", parallel.tensor_size(launch.gpus, options.tensor_parallel_size, 1)),
        *value("--session-len", options.session_len),
        *value("--max-batch-size", options.max_batch_size),
        *value("--cache-max-entry-count", options.cache_max_entry_count),
        *value("--max-prefill-token-num", options.max_prefill_token_num),
        *(["--enable-prefix-caching"] if options.enable_prefix_caching else []),
        *value("--quant-policy", options.quant_policy),
        *value("--dtype", options.dtype),
        *value("--model-format", options.model_format),
        *value("--tool-call-parser", options.tool_call_parser),
        *value("--reasoning-parser", options.reasoning_parser),
        *value("--chat-template", options.chat_template),
        *value("--revision", options.revision),
        *(["--trust-remote-code"] if options.trust_remote_code else []),
    ]


def _engine(launch: Launch, options: LmdeployOptions) -> list[str]:
    """Only the PyTorch engine knows adapters, and other accelerators than CUDA's."""
    pytorch = bool(launch.lora) or launch.accelerator == "ascend"
    if pytorch and options.backend == "turbomind":
        raise Refusal("options.backend", "TurboMind has neither `lora` nor Ascend", "set it to pytorch, or remove it")
    return [
        *value("--backend", "pytorch" if pytorch else options.backend),
        *(["--device", "ascend"] if launch.accelerator == "ascend" else []),
        *(["--adapters", *(f"{name}={path}" for name, path in launch.lora.items())] if launch.lora else []),
    ]

"""transformers (`transformers serve`): whatever Hugging Face's library can load; chat and transcription."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from launchers import devices, programs, sources
from launchers.base import CPU_TORCH, Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Recipe, Refusal
from launchers.flags import switch, value

Meta = msgspec.Meta
Size = Annotated[int, Meta(ge=1)]


class TransformersOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of transformers. What is not set is left to it; other flags of `transformers serve` go into `args`."""

    device: Annotated[
        str | None,
        Meta(description="Where the model runs (auto, cpu, cuda:0, …). Not set: auto, or cpu where it has no GPUs."),
    ] = None
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"] | None, Meta(description="Number format of the weights.")
    ] = None
    continuous_batching: Annotated[
        bool,
        Meta(description="Compute several requests at the same time. Without it they are answered one by one."),
    ] = False
    cb_block_size: Annotated[
        Size | None, Meta(description="With continuous_batching: tokens in a block of the KV cache.")
    ] = None
    cb_num_blocks: Annotated[Size | None, Meta(description="With continuous_batching: blocks in the KV cache.")] = None
    cb_max_batch_tokens: Annotated[
        Size | None, Meta(description="With continuous_batching: tokens computed in one step.")
    ] = None
    cb_max_memory_percent: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="With continuous_batching: share of the GPU's memory (0 to 1) for the KV cache."),
    ] = None
    attn_implementation: Annotated[
        str | None, Meta(description="Attention to use (sdpa, flash_attention_2, …). Not set: the library's choice.")
    ] = None
    compile: Annotated[
        bool | None, Meta(description="Compile the model by torch.compile: the first requests are slow, others faster.")
    ] = None
    quantization: Annotated[
        Literal["bnb-4bit", "bnb-8bit"] | None,
        Meta(description="Quantise the weights as they are loaded; needs the package bitsandbytes beside the engine."),
    ] = None
    reasoning: Annotated[
        Literal["on", "off", "auto"] | None,
        Meta(description="Whether a model that can reason does so, by its chat template; auto leaves it to that."),
    ] = None
    revision: Annotated[
        str, Meta(pattern="^[^@:]+$", description="Branch, tag or commit of the model's repository.")
    ] = "main"
    trust_remote_code: Annotated[
        bool | None, Meta(description="Run Python code that comes with the model. Only for models you trust.")
    ] = None


_CHAT = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "chat": {path: path for path in _CHAT},
    "transcription": {"/v1/audio/transcriptions": "/v1/audio/transcriptions"},
}
_SAMPLING = "generation_config model seed stream stream_options temperature top_p user"
# Any other member is a 422. As `transformers serve` 5.23.0 has them, with openai 3.52.0.
_TAKES: Mapping[str, frozenset[str]] = {
    "/v1/chat/completions": frozenset(
        f"{_SAMPLING} audio chat_template_kwargs frequency_penalty function_call functions logit_bias logprobs "
        "max_completion_tokens max_tokens messages metadata modalities moderation n parallel_tool_calls prediction "
        "presence_penalty prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort "
        "response_format safety_identifier service_tier stop store tool_choice tools top_logprobs verbosity "
        "web_search_options".split()
    ),
    "/v1/completions": frozenset(
        f"{_SAMPLING} best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty prompt stop "
        "suffix".split()
    ),
    "/v1/responses": frozenset(
        f"{_SAMPLING} access_programs background context_management conversation image include input instructions "
        "max_output_tokens max_tool_calls metadata moderation parallel_tool_calls previous_response_id prompt "
        "prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store "
        "text tool_choice tools top_logprobs truncation".split()
    ),
}
# Null for `chat_template_kwargs` is a 500. `usage` comes with every stream, so that nobody has to ask for it.
_DIALECT = Dialect(
    takes=_TAKES,
    nulls=False,
    defaults={"/v1/responses": {"stream": False}},  # it streams to whom does not say
)
_HEALTH = Probe("/health")


class Transformers:
    name = "transformers"
    summary = "transformers serve: models that no other engine has yet"
    Options: type[msgspec.Struct] = TransformersOptions
    kinds: tuple[Kind, ...] = ("chat", "transcription")
    default_kind: Kind = "chat"
    recipes: Mapping[str, Recipe] = {
        "gpu": Recipe(lock="transformers.lock", check="bin/transformers"),
        "cpu": Recipe(lock="transformers-cpu.lock", check="bin/transformers", missing=CPU_TORCH),
    }

    def find(self, places: Sequence[Path], options: TransformersOptions) -> Program | None:  # noqa: ARG002
        found = programs.find(places, "transformers")
        return Program((str(found),)) if found else None

    def command(self, launch: Launch) -> Command:
        options: TransformersOptions = launch.options
        # A name with its revision comes back as it was sent; one without comes back with `@main`.
        served = f"{_model(launch, options)}@{options.revision}"
        return Command(
            argv=(*launch.program.argv, "serve", served, *_flags(launch, options), *launch.args),
            env={
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "PYTHONUNBUFFERED": "1",
                **devices.visible(launch.gpus, launch.accelerator),
            },
            scrub=("PYTHONHOME", "PYTHONPATH"),
            readiness=_HEALTH,
            liveness=_HEALTH,
            served=served,
            paths=_PATHS[launch.kind],
            keep_alive=KeepAlive(idle=4),
            # One by one it does not look whether a client that waits is still there; the router does.
            concurrency=None if options.continuous_batching else 1,
            dialect=_DIALECT,
        )


def _model(launch: Launch, options: TransformersOptions) -> str:
    model = sources.folder_or_id(launch, "transformers")
    if "@" in model or ":" in model:
        raise Refusal("model", "transformers reads @ and : in a name as the revision and a file", "rename the folder")
    if launch.lora:
        raise Refusal("lora", "transformers serve has no LoRA adapters", "use vllm, or merge the adapter")
    if launch.kind == "transcription" and options.continuous_batching:
        raise Refusal("options.continuous_batching", "is for chat models", "remove it")
    return model


def _flags(launch: Launch, options: TransformersOptions) -> list[str]:
    device = "cpu" if options.device is None and launch.gpus == () else options.device
    return [
        *("--host", launch.host, "--port", str(launch.port)),
        *value("--device", device),
        *value("--dtype", options.dtype),
        *(["--continuous-batching"] if options.continuous_batching else []),
        *value("--cb-block-size", options.cb_block_size),
        *value("--cb-num-blocks", options.cb_num_blocks),
        *value("--cb-max-batch-tokens", options.cb_max_batch_tokens),
        *value("--cb-max-memory-percent", options.cb_max_memory_percent),
        *value("--attn-implementation", options.attn_implementation),
        *switch("--compile", options.compile),
        *value("--quantization", options.quantization),
        *value("--reasoning", options.reasoning),
        *switch("--trust-remote-code", options.trust_remote_code),
    ]

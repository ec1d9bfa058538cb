"""TensorRT-LLM (`trtllm-serve`): chat, images and video on NVIDIA GPUs. Its environment is NVIDIA's, often a container.

Its server knows no API key, so that other users of the machine can reach it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from launchers import adapters, devices, parallel, programs, sources
from launchers.base import Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Recipe
from launchers.flags import value
from launchers.kinds import same

Meta = msgspec.Meta
Size = Annotated[int, Meta(ge=1)]


class TrtllmOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of TensorRT-LLM. What is not set is left to it; any other flag of `trtllm-serve` goes into `args`."""

    backend: Annotated[
        Literal["pytorch", "tensorrt", "_autodeploy"] | None,
        Meta(description="What computes. Not set: pytorch. tensorrt needs an engine that was built before."),
    ] = None
    tensor_parallel_size: Annotated[
        Size | None,
        Meta(description="GPUs that share each layer. Not set: the model's GPUs over pipeline_parallel_size."),
    ] = None
    pipeline_parallel_size: Annotated[
        Size | None, Meta(description="Groups of GPUs that the layers are dealt out to, one after the other.")
    ] = None
    expert_parallel_size: Annotated[
        Size | None, Meta(description="Parts that the experts of a mixture-of-experts model are dealt out to.")
    ] = None
    max_seq_len: Annotated[
        Size | None, Meta(description="Context length in tokens, prompt and answer together. Not set: the model's own.")
    ] = None
    max_batch_size: Annotated[Size | None, Meta(description="Requests that are computed at the same time.")] = None
    max_num_tokens: Annotated[Size | None, Meta(description="Tokens computed in one step.")] = None
    free_gpu_memory_fraction: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="Share of the GPU memory that the weights leave free (0 to 1) for the KV cache."),
    ] = None
    enable_chunked_prefill: Annotated[bool, Meta(description="Compute long prompts in several steps.")] = False
    tool_call_parser: Annotated[
        str | None, Meta(description="Parser of the model's tool calls (qwen3, deepseek_v3, …).")
    ] = None
    reasoning_parser: Annotated[
        str | None, Meta(description="Parser that separates the model's reasoning from its answer (qwen3, …).")
    ] = None
    chat_template: Annotated[
        str | None, Meta(description="File with a Jinja chat template to use in place of the model's own.")
    ] = None
    config: Annotated[
        str | None, Meta(description="YAML file with any other setting of its LLM class, which overrides the options.")
    ] = None
    revision: Annotated[str | None, Meta(description="Branch, tag or commit of the model's repository.")] = None
    trust_remote_code: Annotated[
        bool, Meta(description="Run Python code that comes with the model. Only for models you trust.")
    ] = False


_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "chat": same("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/responses/{id}"),
    "image": same("/v1/images/generations", "/v1/images/edits"),
    "video": same("/v1/videos", "/v1/videos/{id}", "/v1/videos/{id}/content"),
}
_HEALTH = Probe("/health")
# One token of an answer: `/health` says 200 before the first one can be made.
_GENERATES = Probe("/health_generate")


class Trtllm:
    name = "trtllm"
    summary = "TensorRT-LLM: NVIDIA's own engine for NVIDIA GPUs"
    Options: type[msgspec.Struct] = TrtllmOptions
    kinds: tuple[Kind, ...] = ("chat", "image", "video")
    default_kind: Kind = "chat"
    recipes: Mapping[str, Recipe] = {}

    def find(self, places: Sequence[Path], options: TrtllmOptions) -> Program | None:  # noqa: ARG002
        found = programs.find(places, "trtllm-serve")
        return Program((str(found),)) if found else None

    def command(self, launch: Launch) -> Command:
        model = _model(launch)
        return Command(
            argv=(*launch.program.argv, "serve", model, *_flags(launch), *launch.args),
            env={"PYTHONUNBUFFERED": "1", **devices.visible(launch.gpus, launch.accelerator)},
            scrub=("PYTHONHOME", "PYTHONPATH"),
            readiness=_GENERATES if launch.kind == "chat" else _HEALTH,
            liveness=_HEALTH,
            # A folder is called by its last name.
            served=Path(model).name if launch.source.where == "folder" else model,
            paths=_PATHS[launch.kind],
            keep_alive=KeepAlive(idle=4),
            dialect=Dialect(nulls=False, counts=True),
        )


def _model(launch: Launch) -> str:
    adapters.refuse(launch, "trtllm-serve", "remove `lora`, and name adapters in the file of options.config")
    return sources.folder_or_id(launch, "TensorRT-LLM")


def _flags(launch: Launch) -> list[str]:
    options: TrtllmOptions = launch.options
    size = parallel.tensor_size(launch.gpus, options.tensor_parallel_size, options.pipeline_parallel_size or 1)
    return [
        *("--host", launch.host, "--port", str(launch.port)),
        *value("--backend", options.backend),
        *value("--tp_size", size),
        *value("--pp_size", options.pipeline_parallel_size),
        *value("--ep_size", options.expert_parallel_size),
        *value("--max_seq_len", options.max_seq_len),
        *value("--max_batch_size", options.max_batch_size),
        *value("--max_num_tokens", options.max_num_tokens),
        *value("--free_gpu_memory_fraction", options.free_gpu_memory_fraction),
        *(["--enable_chunked_prefill"] if options.enable_chunked_prefill else []),
        *value("--tool_parser", options.tool_call_parser),
        *value("--reasoning_parser", options.reasoning_parser),
        *value("--chat_template", options.chat_template),
        *value("--config", options.config),
        *value("--revision", options.revision),
        *(["--trust_remote_code"] if options.trust_remote_code else []),
    ]

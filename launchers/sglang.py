"""SGLang (`sglang serve`): chat, embeddings, rerank and transcription, and by its diffusion server images and video."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from launchers import adapters, devices, keyed, parallel, sglang_diffusion
from launchers.base import Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Recipe
from launchers.flags import value
from launchers.kinds import same
from launchers.sglang_options import SglangOptions

_TOKENS = ("/tokenize", "/detokenize")
_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "chat": same(
        *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
        *_TOKENS,
    ),
    # Its `/classify` is another one, without OpenAI's shape.
    "embedding": {**same("/v1/embeddings", *_TOKENS), "/classify": "/v1/classify"},
    "rerank": {
        **same("/v1/rerank", "/v1/score", *_TOKENS),
        "/v2/rerank": "/v1/rerank",
        "/classify": "/v1/classify",
    },
    "transcription": same("/v1/audio/transcriptions", "/v1/realtime"),
}
_STORED = same("/v1/responses/{id}", "/v1/responses/{id}/cancel")
# SGLANG_GRPC_PORT would open a second server, without the key.
_SCRUB = ("SGLANG_USE_MODELSCOPE", "SGLANG_GRPC_PORT", "SGLANG_RUST_SERVER", "PYTHONHOME", "PYTHONPATH")
_ENV = {
    "SGLANG_TIMEOUT_KEEP_ALIVE": "120",
    # Else each look at /health generates a token, and takes a second.
    "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0",
}


class Sglang:
    name = "sglang"
    summary = "SGLang: fast for chat on GPUs, with images and video by its diffusion server"
    Options: type[msgspec.Struct] = SglangOptions
    kinds: tuple[Kind, ...] = ("chat", "embedding", "rerank", "transcription", "image", "video")
    default_kind: Kind = "chat"
    recipes: Mapping[str, Recipe] = {
        "gpu": Recipe(lock="sglang.lock", check="bin/sglang"),
        "diffusion": Recipe(lock="sglang-diffusion.lock", check="bin/sglang"),
    }

    def find(self, places: Sequence[Path], options: SglangOptions) -> Program | None:  # noqa: ARG002
        return keyed.find(places, "sglang")

    def command(self, launch: Launch) -> Command:
        if launch.kind in sglang_diffusion.PATHS:
            return sglang_diffusion.command(launch)
        served = _served(launch.name)
        return Command(
            # Else it looks for a diffusion model under this name, on the hub.
            argv=(*keyed.argv(launch.program, "--api-key"), "serve", "--model-type", "llm", *_flags(launch, served)),
            env=_env(launch),
            scrub=_SCRUB,
            readiness=Probe("/ready"),
            liveness=Probe("/health"),
            served=served,
            paths=_paths(launch),
            keep_alive=KeepAlive(idle=110),
            names={name: f"{served}:{name}" for name in launch.lora},
            dialect=Dialect(nulls=False, counts=True, aborts=True),
        )


def _served(name: str) -> str:
    """`a:b` would be the adapter b in some of its versions."""
    return name.replace(":", "-")


def _paths(launch: Launch) -> Mapping[str, str]:
    paths = _PATHS[launch.kind]
    return {**paths, **_STORED} if launch.kind == "chat" and launch.options.responses_store else paths


def _env(launch: Launch) -> dict[str, str]:
    env = {**_ENV, keyed.KEY_VARIABLE: launch.key, **devices.visible(launch.gpus, launch.accelerator)}
    if launch.source.where == "modelscope":
        env["SGLANG_USE_MODELSCOPE"] = "true"
    return env


def _flags(launch: Launch, served: str) -> list[str]:
    options: SglangOptions = launch.options
    return [
        *("--model-path", launch.source.value, "--served-model-name", served),
        *("--host", launch.host, "--port", str(launch.port), "--enable-metrics"),
        *_device(launch.gpus, options),
        *_parallel(launch.gpus, options),
        *_kind(launch.kind, options),
        *_memory(options),
        *_model(options),
        *_lora(launch.lora, options),
        *launch.args,
    ]


def _device(gpus: tuple[str, ...] | None, options: SglangOptions) -> list[str]:
    return value("--device", options.device or ("cpu" if gpus == () else None))


def _parallel(gpus: tuple[str, ...] | None, options: SglangOptions) -> list[str]:
    others = (options.pipeline_parallel_size or 1) * (options.data_parallel_size or 1)
    return [
        *value("--tp-size", parallel.tensor_size(gpus, options.tensor_parallel_size, others)),
        *value("--pp-size", options.pipeline_parallel_size),
        *value("--dp-size", options.data_parallel_size),
        *value("--ep-size", options.expert_parallel_size),
    ]


def _kind(kind: Kind, options: SglangOptions) -> list[str]:
    vectors = kind in ("embedding", "rerank") if options.embedding is None else options.embedding
    return [
        *(["--is-embedding"] if vectors else []),
        *(["--enable-response-store"] if options.responses_store else []),
        *value("--tool-call-parser", options.tool_call_parser),
        *value("--reasoning-parser", options.reasoning_parser),
        *value("--chat-template", options.chat_template),
    ]


def _memory(options: SglangOptions) -> list[str]:
    return [
        *value("--mem-fraction-static", options.mem_fraction_static),
        *value("--context-length", options.context_length),
        *value("--max-running-requests", options.max_running_requests),
        *value("--max-queued-requests", options.max_queued_requests),
        *value("--max-total-tokens", options.max_total_tokens),
        *value("--chunked-prefill-size", options.chunked_prefill_size),
        *value("--schedule-policy", options.schedule_policy),
        *value("--kv-cache-dtype", options.kv_cache_dtype),
        *value("--cpu-offload-gb", options.cpu_offload_gb),
        *([] if options.radix_cache else ["--disable-radix-cache"]),
        *([] if options.cuda_graph else ["--disable-cuda-graph"]),
    ]


def _model(options: SglangOptions) -> list[str]:
    return [
        *value("--dtype", options.dtype),
        *value("--quantization", options.quantization),
        *value("--attention-backend", options.attention_backend),
        *value("--load-format", options.load_format),
        *value("--revision", options.revision),
        *(["--trust-remote-code"] if options.trust_remote_code else []),
    ]


def _lora(lora: Mapping[str, str], options: SglangOptions) -> list[str]:
    return [
        *(["--lora-paths", *adapters.as_json(lora, "lora_name", "lora_path")] if lora else []),
        *value("--max-loras-per-batch", options.max_loras_per_batch),
        *value("--max-loaded-loras", options.max_loaded_loras),
        *value("--max-lora-rank", options.max_lora_rank),
    ]

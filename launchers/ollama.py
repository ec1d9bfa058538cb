"""Ollama (`ollama serve`), started for one model of its own library. One that runs already is a model with `url:`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from launchers import devices, programs
from launchers.base import Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Recipe, Refusal

Meta = msgspec.Meta
Size = Annotated[int, Meta(ge=1)]


class OllamaOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of Ollama. What is not set is left to it; any other variable that it reads goes into `env`."""

    models_dir: Annotated[
        str | None, Meta(description="Folder that Ollama keeps its models in, as a whole path. Not set: its own.")
    ] = None
    context_length: Annotated[
        Size | None, Meta(description="Context length in tokens. Not set: 4k to 256k, by the memory of the GPUs.")
    ] = None
    num_parallel: Annotated[
        Size | None, Meta(description="Requests that are computed at the same time; each takes a context's memory.")
    ] = None
    max_queue: Annotated[
        Size | None, Meta(description="Requests that may wait inside Ollama; the next one is answered with 503.")
    ] = None
    flash_attention: Annotated[bool | None, Meta(description="Use flash attention.")] = None
    kv_cache_type: Annotated[
        Literal["f16", "q8_0", "q4_0"] | None,
        Meta(description="Number format of the KV cache; others than f16 need flash_attention."),
    ] = None
    keep_alive: Annotated[str, Meta(description="How long an idle model stays in memory, like 10m; -1: for good.")] = (
        "-1"
    )


_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "chat": {path: path for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")},
    "embedding": {"/v1/embeddings": "/v1/embeddings"},
    "transcription": {"/v1/audio/transcriptions": "/v1/audio/transcriptions"},
}
_HEALTH = Probe("/")
# With nothing to answer, each of these only loads the model.
_LOADING: Mapping[Kind, str] = {"chat": "/api/generate", "embedding": "/api/embed", "transcription": "/api/generate"}


class Ollama:
    name = "ollama"
    summary = "Ollama: a model of Ollama's own library"
    Options: type[msgspec.Struct] = OllamaOptions
    kinds: tuple[Kind, ...] = ("chat", "embedding", "transcription")
    default_kind: Kind = "chat"
    recipes: Mapping[str, Recipe] = {}

    def find(self, places: Sequence[Path], options: OllamaOptions) -> Program | None:  # noqa: ARG002
        found = programs.find(places, "ollama")
        return Program((str(found),)) if found else None

    def command(self, launch: Launch) -> Command:
        return Command(
            argv=(*launch.program.argv, "serve", *launch.args),
            env=_env(launch),
            # OLLAMA_MODELS stays: it says where the user's models are. The llama.cpp inside reads LLAMA_ARG_*.
            scrub=("OLLAMA_DEBUG*", "OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_*", "OLLAMA_SCHED_SPREAD", "LLAMA_ARG_*"),
            readiness=_readiness(launch),
            liveness=_HEALTH,
            served=_model(launch),
            paths=_PATHS[launch.kind],
            keep_alive=KeepAlive(idle=110),  # it closes none
            dialect=Dialect(tokens=False, counts=True),
        )


def _model(launch: Launch) -> str:
    if launch.source.where in ("file", "folder", "modelscope"):
        raise Refusal("model", "Ollama serves what its own library holds", "`ollama create` it, and give that name")
    if launch.lora:
        raise Refusal("lora", "Ollama has an adapter as part of a model", "name it in a Modelfile, and `ollama create`")
    return launch.source.value


def _readiness(launch: Launch) -> Probe:
    """Asked once, since it stops loading when nobody waits for it. 404: it does not have the model."""
    body = msgspec.json.encode({"model": launch.source.value})
    return Probe(_LOADING[launch.kind], body=body, never=(404,), patience=86400)


def _env(launch: Launch) -> dict[str, str]:
    options: OllamaOptions = launch.options
    given = {
        "OLLAMA_MODELS": options.models_dir,
        "OLLAMA_CONTEXT_LENGTH": options.context_length,
        "OLLAMA_NUM_PARALLEL": options.num_parallel,
        "OLLAMA_MAX_QUEUE": options.max_queue,
        "OLLAMA_FLASH_ATTENTION": None if options.flash_attention is None else int(options.flash_attention),
        "OLLAMA_KV_CACHE_TYPE": options.kv_cache_type,
    }
    return {
        "OLLAMA_HOST": f"{launch.host}:{launch.port}",
        "OLLAMA_KEEP_ALIVE": options.keep_alive,
        # Another one may be downloading into the same folder, and this would remove what it has so far.
        "OLLAMA_NOPRUNE": "1",
        **{name: str(value) for name, value in given.items() if value is not None},
        **_devices(launch),
    }


def _devices(launch: Launch) -> dict[str, str]:
    """Vulkan would show it the GPUs that the vendor's own variable hides."""
    if launch.gpus is None:
        return {}
    library = {} if launch.gpus else {"OLLAMA_LLM_LIBRARY": "cpu"}
    return {"OLLAMA_VULKAN": "0", **library, **devices.visible(launch.gpus, launch.accelerator)}

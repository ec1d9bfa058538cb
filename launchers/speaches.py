"""speaches: speech to text by faster-whisper and others, text to speech by Kokoro and Piper."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from launchers import devices, programs
from launchers.base import Command, KeepAlive, Kind, Launch, Probe, Program, Recipe, Refusal

Meta = msgspec.Meta
Ttl = Annotated[int, Meta(ge=-1)]


class SpeachesOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of speaches. What is not set is left to it; any other variable that it reads goes into `env`."""

    checkout: Annotated[
        str | None,
        Meta(
            description="Folder of speaches' sources, where it is started: it wants `realtime-console/dist` there. "
            "Not set: the folder that holds its environment."
        ),
    ] = None
    preload: Annotated[
        bool,
        Meta(description="Ask Hugging Face for the model at each start, and download what is missing; needs the hub."),
    ] = True
    model_ttl: Annotated[
        Ttl, Meta(description="Seconds after which an idle model is unloaded; -1: never. It loads with its first use.")
    ] = -1
    inference_device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        Meta(description="Where whisper runs. Not set: cuda where the model has GPUs, cpu where it has none."),
    ] = None
    compute_type: Annotated[
        Literal[
            "default",
            "int8",
            "int8_float16",
            "int8_bfloat16",
            "int8_float32",
            "int16",
            "float16",
            "bfloat16",
            "float32",
        ]
        | None,
        Meta(description="Number format that whisper computes in."),
    ] = None
    cpu_threads: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="Threads of whisper on the CPU; 0: its own choice.")
    ] = None
    num_workers: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Requests that whisper computes at the same time.")
    ] = None


_AUDIO = ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/realtime")
_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "transcription": {path: path for path in _AUDIO},
    "speech": {"/v1/audio/speech": "/v1/audio/speech"},
}
_HEALTH = Probe("/health")
_ENV = {
    "ENABLE_UI": "false",
    "LOG_LEVEL": "info",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYANNOTE_METRICS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
}


class Speaches:
    """It is no package: clone it, run `uv sync` there, and name what that made, `environment: /path/to/speaches/.venv`;
    it is not looked for on PATH. At each start it asks Hugging Face for its model; `preload: false` where there is no
    hub and the files are in the cache, then it loads with the first request. `/v1/realtime` is for
    `intent=transcription`: the model's name is that of the transcriber."""

    name = "speaches"
    summary = "speaches: speech to text and text to speech"
    Options: type[msgspec.Struct] = SpeachesOptions
    kinds: tuple[Kind, ...] = ("transcription", "speech")
    default_kind: Kind = "transcription"
    recipes: Mapping[str, Recipe] = {}

    def find(self, places: Sequence[Path], options: SpeachesOptions) -> Program | None:
        """In its checkout, since it opens a folder there by a relative path."""
        python = next((found for place in places if (found := programs.interpreter_with(place, "speaches"))), None)
        if python is None:
            return None
        checkout = options.checkout or str(python.parent.parent.parent)
        return Program(("/usr/bin/env", "-C", checkout, str(python), "-m", "uvicorn"))

    def command(self, launch: Launch) -> Command:
        address = ("--host", launch.host, "--port", str(launch.port), "--timeout-keep-alive", "120")
        return Command(
            argv=(*launch.program.argv, "--factory", "speaches.main:create_app", *address, *launch.args),
            env=_env(launch, _model(launch)),
            scrub=("UVICORN_*", "WHISPER__*", "API_KEY", "ALLOW_ORIGINS", "PYTHONHOME", "PYTHONPATH"),
            readiness=_HEALTH,
            liveness=_HEALTH,
            served=launch.source.value,
            paths=_PATHS[launch.kind],
            keep_alive=KeepAlive(idle=110),
        )


def _model(launch: Launch) -> str:
    if launch.source.where != "hub":
        raise Refusal("model", "speaches serves models by their Hugging Face id", "give the id")
    if launch.lora:
        raise Refusal("lora", "speaches has no LoRA adapters", "remove it")
    return launch.source.value


def _env(launch: Launch, model: str) -> dict[str, str]:
    options: SpeachesOptions = launch.options
    whisper = {
        "WHISPER__INFERENCE_DEVICE": options.inference_device or _device(launch.gpus),
        "WHISPER__COMPUTE_TYPE": options.compute_type,
        "WHISPER__CPU_THREADS": options.cpu_threads,
        "WHISPER__NUM_WORKERS": options.num_workers,
    }
    return {
        **_ENV,
        "API_KEY": launch.key,
        # For what `/v1/realtime` asks of itself.
        "UVICORN_HOST": launch.host,
        "UVICORN_PORT": str(launch.port),
        "STT_MODEL_TTL": str(options.model_ttl),
        "TTS_MODEL_TTL": str(options.model_ttl),
        "PRELOAD_MODELS": json.dumps([model] if options.preload else []),
        **{name: str(value) for name, value in whisper.items() if value is not None},
        **devices.visible(launch.gpus, launch.accelerator),
    }


def _device(gpus: tuple[str, ...] | None) -> str | None:
    if gpus is None:
        return None
    return "cuda" if gpus else "cpu"

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from launching import FILE, FOLDER, KEY, MODELSCOPE, command, has

from launchers import LAUNCHERS
from launchers.base import KeepAlive, Program, Refusal
from launchers.speaches import SpeachesOptions

# The fields of speaches' own settings in 0.8.3 (src/speaches/config.py), `whisper` with its own.
SETTINGS_TEXT = """
    STT_MODEL_TTL TTS_MODEL_TTL VAD_MODEL_TTL API_KEY LOG_LEVEL UVICORN_HOST UVICORN_PORT ALLOW_ORIGINS ENABLE_UI
    LOOPBACK_HOST_URL CHAT_COMPLETION_BASE_URL CHAT_COMPLETION_API_KEY PRELOAD_MODELS WHISPER__INFERENCE_DEVICE
    WHISPER__DEVICE_INDEX WHISPER__COMPUTE_TYPE WHISPER__CPU_THREADS WHISPER__NUM_WORKERS
"""
SETTINGS = set(SETTINGS_TEXT.split())
# What it sets for other libraries.
OTHERS = {
    "DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "PYANNOTE_METRICS_ENABLED", "PYTHONUNBUFFERED", "CUDA_VISIBLE_DEVICES",
}  # fmt: skip
# One value for every option that is a variable, and what it gives.
EVERY: dict[str, tuple[Any, str, str]] = {
    "preload": (False, "PRELOAD_MODELS", "[]"),
    "model_ttl": (60, "STT_MODEL_TTL", "60"),
    "inference_device": ("cpu", "WHISPER__INFERENCE_DEVICE", "cpu"),
    "compute_type": ("int8", "WHISPER__COMPUTE_TYPE", "int8"),
    "cpu_threads": (2, "WHISPER__CPU_THREADS", "2"),
    "num_workers": (3, "WHISPER__NUM_WORKERS", "3"),
}


def test_a_bare_model_gives_only_what_the_router_needs() -> None:
    made = command("speaches")
    assert made.argv == (
        *("speaches", "--factory", "speaches.main:create_app", "--host", "127.0.0.1", "--port", "9001"),
        *("--timeout-keep-alive", "120"),
    )
    assert made.served == "org/model"
    assert made.keep_alive == KeepAlive(idle=110)
    assert json.loads(made.env["PRELOAD_MODELS"]) == ["org/model"]
    assert (made.env["STT_MODEL_TTL"], made.env["TTS_MODEL_TTL"]) == ("-1", "-1")
    assert (made.env["UVICORN_HOST"], made.env["UVICORN_PORT"]) == ("127.0.0.1", "9001")


@pytest.mark.parametrize("field", EVERY)
def test_an_option_gives_its_variable(field: str) -> None:
    given, variable, value = EVERY[field]
    assert command("speaches", {field: given}).env[variable] == value


def test_every_option_has_a_case_and_every_variable_is_one_of_its_own() -> None:
    assert {*EVERY, "checkout"} == set(SpeachesOptions.__struct_fields__)
    made = command("speaches", {field: given for field, (given, _, _) in EVERY.items()}, gpus=())
    assert set(made.env) <= SETTINGS | OTHERS


@pytest.mark.parametrize(("gpus", "device"), [((), "cpu"), (("0",), "cuda")])
def test_gpus_choose_the_device(gpus: tuple[str, ...], device: str) -> None:
    assert command("speaches", gpus=gpus).env["WHISPER__INFERENCE_DEVICE"] == device
    assert "WHISPER__INFERENCE_DEVICE" not in command("speaches").env


def test_a_kind_serves_its_paths() -> None:
    assert "/v1/audio/translations" in command("speaches").paths
    assert set(command("speaches", kind="speech").paths) == {"/v1/audio/speech"}


def test_the_key_is_never_an_argument() -> None:
    made = command("speaches")
    assert KEY not in " ".join(made.argv)
    assert made.env["API_KEY"] == KEY


@pytest.mark.parametrize("source", [FILE, FOLDER, MODELSCOPE])
def test_only_ids_of_the_hub_are_served(source: Any) -> None:
    with pytest.raises(Refusal) as refused:
        command("speaches", source=source)
    assert refused.value.field == "model"


def test_it_is_started_in_its_checkout(tmp_path: Path) -> None:
    environment = tmp_path / ".venv"
    python = environment / "bin" / "python"
    (environment / "lib" / "python3.12" / "site-packages" / "speaches").mkdir(parents=True)
    python.parent.mkdir()
    python.touch()
    launcher = LAUNCHERS["speaches"]

    def found(**options: str) -> Program | None:
        return launcher.find([environment], msgspec.convert(options, SpeachesOptions))

    started = found()
    assert started is not None
    assert started.argv == ("/usr/bin/env", "-C", str(tmp_path), str(python), "-m", "uvicorn")
    elsewhere = found(checkout="/src/speaches")
    assert elsewhere is not None
    assert has(elsewhere.argv, "-C", "/src/speaches")
    assert launcher.find([tmp_path / "nothing"], SpeachesOptions()) is None

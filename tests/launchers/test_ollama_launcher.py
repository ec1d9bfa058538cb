import json
from typing import Any

import pytest
from launching import FILE, FOLDER, KEY, MODELSCOPE, command

from launchers import LAUNCHERS
from launchers.base import KeepAlive, Refusal, Source

TAG = Source("hub", "qwen3:8b")
# The variables of `ollama serve` 0.33 (envconfig/config.go).
VARIABLES_TEXT = """
    DEBUG DEBUG_LOG_REQUESTS GO_TEMPLATE FLASH_ATTENTION KV_CACHE_TYPE GPU_OVERHEAD IGPU_ENABLE HOST KEEP_ALIVE
    LLM_LIBRARY LOAD_TIMEOUT MAX_LOADED_MODELS MAX_TRANSFER_STREAMS MAX_QUEUE MODELS NO_CLOUD NOHISTORY NOPRUNE
    NUM_PARALLEL ORIGINS SCHED_SPREAD CONTEXT_LENGTH EDITOR REMOTES VULKAN AUTH
"""
VARIABLES = set(VARIABLES_TEXT.split())
# One value for every option, and the variable it gives.
EVERY: dict[str, tuple[Any, str, str]] = {
    "models_dir": ("/models", "OLLAMA_MODELS", "/models"),
    "context_length": (8192, "OLLAMA_CONTEXT_LENGTH", "8192"),
    "num_parallel": (4, "OLLAMA_NUM_PARALLEL", "4"),
    "max_queue": (99, "OLLAMA_MAX_QUEUE", "99"),
    "flash_attention": (False, "OLLAMA_FLASH_ATTENTION", "0"),
    "kv_cache_type": ("q8_0", "OLLAMA_KV_CACHE_TYPE", "q8_0"),
    "keep_alive": ("10m", "OLLAMA_KEEP_ALIVE", "10m"),
}


def test_a_bare_model_gives_only_what_the_router_needs() -> None:
    made = command("ollama", source=TAG)
    assert made.argv == ("ollama", "serve")
    assert made.env == {"OLLAMA_HOST": "127.0.0.1:9001", "OLLAMA_KEEP_ALIVE": "-1", "OLLAMA_NOPRUNE": "1"}
    assert made.served == "qwen3:8b"
    assert made.keep_alive == KeepAlive(idle=110)


@pytest.mark.parametrize("field", EVERY)
def test_an_option_gives_its_variable(field: str) -> None:
    given, variable, value = EVERY[field]
    assert command("ollama", {field: given}, source=TAG).env[variable] == value


def test_every_option_has_a_case_and_every_variable_is_one_of_its_own() -> None:
    assert set(EVERY) == set(LAUNCHERS["ollama"].Options.__struct_fields__)
    options = {field: given for field, (given, _, _) in EVERY.items()}
    made = command("ollama", options, source=TAG, gpus=())
    named = {name.removeprefix("OLLAMA_") for name in made.env if name.startswith("OLLAMA_")}
    assert named <= VARIABLES


def test_the_folder_of_the_users_models_is_kept() -> None:
    assert not any("OLLAMA_MODELS".startswith(name.rstrip("*")) for name in command("ollama", source=TAG).scrub)


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        ("chat", {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"}),
        ("embedding", {"/v1/embeddings"}),
        ("transcription", {"/v1/audio/transcriptions"}),
    ],
)
def test_a_kind_serves_its_paths(kind: str, paths: set[str]) -> None:
    made = command("ollama", source=TAG, kind=kind)
    assert made.paths == {path: path for path in paths}


@pytest.mark.parametrize(("kind", "path"), [("chat", "/api/generate"), ("embedding", "/api/embed")])
def test_it_is_ready_when_the_model_is_loaded_and_never_without_it(kind: str, path: str) -> None:
    readiness = command("ollama", source=TAG, kind=kind).readiness
    assert (readiness.path, json.loads(readiness.body), readiness.never) == (path, {"model": "qwen3:8b"}, (404,))


def test_hidden_gpus_are_hidden_from_vulkan_too() -> None:
    chosen = command("ollama", source=TAG, gpus=("GPU-a",)).env
    assert (chosen["CUDA_VISIBLE_DEVICES"], chosen["OLLAMA_VULKAN"]) == ("GPU-a", "0")
    assert "OLLAMA_LLM_LIBRARY" not in chosen
    assert command("ollama", source=TAG, gpus=()).env["OLLAMA_LLM_LIBRARY"] == "cpu"


@pytest.mark.parametrize("source", [FILE, FOLDER, MODELSCOPE])
def test_what_is_not_in_its_library_is_refused(source: Source) -> None:
    with pytest.raises(Refusal, match="ollama create") as refused:
        command("ollama", source=source)
    assert refused.value.field == "model"


def test_adapters_are_refused() -> None:
    with pytest.raises(Refusal, match="Modelfile"):
        command("ollama", source=TAG, lora={"a": "/lora"})


def test_there_is_no_key_to_give_away() -> None:
    made = command("ollama", source=TAG)
    assert KEY not in (*made.argv, *made.env.values())

from pathlib import Path
from typing import Any

import pytest
from launching import FILE, FOLDER, KEY, MODELSCOPE, command, has

from launchers import LAUNCHERS
from launchers.base import KeepAlive, Program, Refusal

# The flags of `text-embeddings-router` 1.9.3 (router/src/main.rs); each is read from the environment too, by its name
# in capitals. The hub's own are for the user to set.
FLAGS_TEXT = """
    model-id revision tokenization-workers dtype served-model-name pooling max-concurrent-requests max-batch-tokens
    max-batch-requests max-client-batch-size auto-truncate default-prompt-name default-prompt dense-path hostname
    port uds-path payload-limit api-key json-output disable-spans otlp-endpoint otlp-service-name prometheus-port
    cors-allow-origin
"""
FLAGS = set(FLAGS_TEXT.split())
HUB_FLAGS = {"hf-api-token", "hf-token", "huggingface-hub-cache"}
# One value for every option, and the words it gives.
EVERY: dict[str, tuple[Any, tuple[str, ...]]] = {
    "dtype": ("float16", ("--dtype", "float16")),
    "pooling": ("last-token", ("--pooling", "last-token")),
    "revision": ("main", ("--revision", "main")),
    "max_batch_tokens": (4096, ("--max-batch-tokens", "4096")),
    "max_batch_requests": (8, ("--max-batch-requests", "8")),
    "max_client_batch_size": (64, ("--max-client-batch-size", "64")),
    "max_concurrent_requests": (99, ("--max-concurrent-requests", "99")),
    "payload_limit": (1000, ("--payload-limit", "1000")),
    "auto_truncate": (False, ("--auto-truncate", "false")),
    "tokenization_workers": (2, ("--tokenization-workers", "2")),
    "default_prompt": ("query: ", ("--default-prompt", "query: ")),
    "default_prompt_name": ("query", ("--default-prompt-name", "query")),
}


def test_a_bare_model_gives_only_what_the_router_needs() -> None:
    made = command("tei")
    assert made.argv == (
        *("tei", "--model-id", "org/model", "--served-model-name", "m", "--hostname", "127.0.0.1", "--port", "9001"),
        *("--prometheus-port", "0", "--uds-path", "/tmp/text-embeddings-inference-9001"),
        *("--payload-limit", "64000000", "--max-client-batch-size", "1024", "--max-concurrent-requests", "8192"),
    )
    assert made.env["API_KEY"] == KEY
    assert made.served == "m"
    assert made.keep_alive == KeepAlive(idle=110)


@pytest.mark.parametrize("field", EVERY)
def test_an_option_gives_its_flag(field: str) -> None:
    given, words = EVERY[field]
    assert has(command("tei", {field: given}).argv, *words)


def test_every_option_has_a_case_and_every_flag_is_one_of_its_own() -> None:
    assert set(EVERY) == set(LAUNCHERS["tei"].Options.__struct_fields__)
    options = {field: given for field, (given, _) in EVERY.items() if field != "default_prompt_name"}
    flags = {word.removeprefix("--") for word in command("tei", options).argv if word.startswith("--")}
    assert flags <= FLAGS
    assert {EVERY[field][1][0].removeprefix("--") for field in EVERY} <= FLAGS


def test_no_variable_of_the_users_is_taken_for_a_flag() -> None:
    scrubbed = set(command("tei").scrub)
    assert {flag.replace("-", "_").upper() for flag in FLAGS} <= scrubbed
    assert not {flag.replace("-", "_").upper() for flag in HUB_FLAGS} & scrubbed


def test_the_key_is_neither_an_argument_nor_printed() -> None:
    """It prints its arguments, those from the environment too, at the level `info` of its program's own module."""
    made = command("tei")
    assert KEY not in " ".join(made.argv)
    assert "text_embeddings_router=warn" in made.env["LOG_LEVEL"].split(",")


@pytest.mark.parametrize(
    ("kind", "public", "path"),
    [
        ("embedding", "/v1/embeddings", "/v1/embeddings"),
        ("rerank", "/v1/rerank", "/rerank"),
        ("rerank", "/v2/rerank", "/rerank"),
        ("rerank", "/detokenize", "/decode"),
    ],
)
def test_a_kind_serves_its_paths(kind: str, public: str, path: str) -> None:
    assert command("tei", kind=kind).paths[public] == path


def test_its_dialect_is_told() -> None:
    dialect = command("tei", {"max_client_batch_size": 64}).dialect
    assert (dialect.max_inputs, dialect.texts, dialect.nulls, dialect.tokens, dialect.base64) == (
        64, True, False, True, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("model", {"source": MODELSCOPE}),
        ("model", {"source": FILE}),
        ("lora", {"lora": {"a": "/lora"}}),
        ("options.default_prompt_name", {"options": {"default_prompt": "a", "default_prompt_name": "b"}}),
    ],
)
def test_what_it_cannot_serve_is_refused(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        command("tei", **changes)
    assert refused.value.field == field


def test_a_folder_is_named_as_it_is() -> None:
    assert has(command("tei", source=FOLDER).argv, "--model-id", "/models/m")


def test_it_is_found_as_a_program(tmp_path: Path) -> None:
    program = tmp_path / "text-embeddings-router"
    program.touch()
    launcher = LAUNCHERS["tei"]
    assert launcher.find([program], launcher.Options()) == Program((str(program),))
    assert launcher.find([tmp_path], launcher.Options()) == Program((str(program),))

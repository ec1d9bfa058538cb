from pathlib import Path
from typing import Any

import pytest
from launching import FILE, FOLDER, KEY, MODELSCOPE, asked, command, has, installed, launch

from launchers import LAUNCHERS
from launchers.base import KeepAlive, Refusal, Source

HEAD = ("transformers", "serve", "org/model@main", "--host", "127.0.0.1", "--port", "9001")
# One value for every option, other than the engine's default; `revision` is part of the model's name.
EVERY: dict[str, Any] = {
    "device": "cpu",
    "dtype": "float32",
    "continuous_batching": True,
    "cb_block_size": 16,
    "cb_num_blocks": 64,
    "cb_max_batch_tokens": 256,
    "cb_max_memory_percent": 0.5,
    "attn_implementation": "sdpa",
    "compile": True,
    "quantization": "bnb-4bit",
    "reasoning": "off",
    "revision": "v1",
    "trust_remote_code": True,
}


def test_a_bare_model_gives_only_what_the_router_needs() -> None:
    made = command("transformers")
    assert made.argv == HEAD
    assert made.env == {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
    assert made.keep_alive == KeepAlive(idle=4)
    assert made.readiness.path == "/health"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float32"}, ("--dtype", "float32")),
        ({"continuous_batching": True, "cb_block_size": 16}, ("--continuous-batching", "--cb-block-size", "16")),
        ({"trust_remote_code": False}, ("--no-trust-remote-code",)),
        ({"reasoning": "off"}, ("--reasoning", "off")),
    ],
)
def test_an_option_gives_its_flag(options: dict[str, Any], words: tuple[str, ...]) -> None:
    assert command("transformers", options).argv == (*HEAD, *words)


def test_the_model_is_asked_for_by_the_name_it_answers_with() -> None:
    assert command("transformers").served == "org/model@main"
    made = command("transformers", {"revision": "v1"}, source=FOLDER)
    assert (made.argv[2], made.served) == ("/models/m@v1", "/models/m@v1")


@pytest.mark.parametrize(
    ("gpus", "options", "words"),
    [
        ((), {}, ("--device", "cpu")),
        ((), {"device": "mps"}, ("--device", "mps")),
        (("1",), {"device": "cuda:0"}, ("--device", "cuda:0")),
    ],
)
def test_gpus_choose_the_device(gpus: tuple[str, ...], options: dict[str, Any], words: tuple[str, ...]) -> None:
    made = command("transformers", options, gpus=gpus)
    assert has(made.argv, *words)
    assert made.env["CUDA_VISIBLE_DEVICES"] == ",".join(gpus)


def test_without_a_word_on_gpus_it_chooses_itself() -> None:
    assert "--device" not in command("transformers").argv
    assert "--device" not in command("transformers", gpus=("0",)).argv


def test_one_request_at_a_time_unless_it_batches() -> None:
    assert command("transformers").concurrency == 1
    assert command("transformers", {"continuous_batching": True}).concurrency is None


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("model", {"source": MODELSCOPE}),
        ("model", {"source": FILE}),
        ("model", {"source": Source("folder", "/models/a@b")}),
        ("lora", {"lora": {"a": "/lora"}}),
        ("options.continuous_batching", {"kind": "transcription", "options": {"continuous_batching": True}}),
    ],
)
def test_what_it_cannot_serve_is_refused(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        command("transformers", **changes)
    assert refused.value.field == field


def test_a_kind_serves_its_paths() -> None:
    assert set(command("transformers").paths) == {"/v1/chat/completions", "/v1/completions", "/v1/responses"}
    assert set(command("transformers", kind="transcription").paths) == {"/v1/audio/transcriptions"}


def test_every_option_has_a_case() -> None:
    assert set(EVERY) == set(LAUNCHERS["transformers"].Options.__struct_fields__)


ASK = """
import enum, json, sys
import typer
from transformers.cli.serve import Serve
from transformers.cli.serving.chat_completion import TransformersCompletionCreateParamsStreaming as Chat
from transformers.cli.serving.completion import TransformersTextCompletionCreateParams as Text
from transformers.cli.serving.response import TransformersResponseCreateParamsStreaming as Response
given = json.load(sys.stdin)
app = typer.Typer()
app.command(name="serve")(Serve)
parsed = typer.main.get_command(app).make_context("serve", given["argv"]).params
paths = {"/v1/chat/completions": Chat, "/v1/completions": Text, "/v1/responses": Response}
print(json.dumps({
    "parsed": {name: value.value if isinstance(value, enum.Enum) else value for name, value in parsed.items()},
    "takes": {path: sorted(fields.__mutable_keys__) for path, fields in paths.items()},
}))
"""


def test_its_own_parser_takes_every_option_and_its_own_schemas_every_member_that_is_passed_on() -> None:
    program = installed("transformers", "transformers")
    made = LAUNCHERS["transformers"].command(launch("transformers", EVERY, program=program))
    answer = asked(Path(program.argv[0]).with_name("python"), ASK, {"argv": made.argv[2:]})
    parsed = answer["parsed"] | {"revision": answer["parsed"]["force_model"].partition("@")[2]}
    assert {field: parsed[field] for field in EVERY} == EVERY
    assert parsed["port"] == 9001
    assert {path: frozenset(members) for path, members in answer["takes"].items()} == made.dialect.takes


def test_there_is_no_key_to_give_away() -> None:
    made = command("transformers", EVERY)
    assert KEY not in (*made.argv, *made.env.values())

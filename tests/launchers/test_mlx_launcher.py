import json
from pathlib import Path
from typing import Any

import pytest
from launching import FILE, FOLDER, MODELSCOPE, asked, command, has, installed, launch

from launchers import LAUNCHERS
from launchers.base import KeepAlive, Refusal

HEAD = ("mlx", "--model", "org/model", "--host", "127.0.0.1", "--port", "9001", "--decode-concurrency", "32")
# One value for every option, other than mlx_lm's default.
EVERY: dict[str, Any] = {
    "max_tokens": 4096,
    "decode_concurrency": 4,
    "prompt_concurrency": 2,
    "prefill_step_size": 512,
    "prompt_cache_size": 3,
    "prompt_cache_bytes": 1 << 30,
    "kv_bits": 8,
    "adapter_path": "/adapter",
    "draft_model": "org/small",
    "num_draft_tokens": 5,
    "trust_remote_code": True,
}


def test_a_bare_model_gives_only_what_the_router_needs() -> None:
    made = command("mlx")
    assert made.argv == HEAD
    assert made.env == {"PYTHONUNBUFFERED": "1"}
    assert made.keep_alive == KeepAlive(idle=0, requests=1)
    assert set(made.paths) == {"/v1/chat/completions", "/v1/completions"}


def test_it_is_ready_when_it_has_made_a_token_and_never_if_that_fails() -> None:
    made = command("mlx")
    asked = json.loads(made.readiness.body)
    assert made.readiness.path in made.paths
    assert (asked["model"], asked["max_tokens"]) == (made.served, 1)
    assert (made.readiness.never, made.liveness.path, made.liveness.body) == ((404,), "/health", b"")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_tokens": 4096}, ("--max-tokens", "4096")),
        ({"kv_bits": 4}, ("--kv-bits", "4")),
        ({"trust_remote_code": True}, ("--trust-remote-code",)),
        ({"adapter_path": "/adapter"}, ("--adapter-path", "/adapter")),
    ],
)
def test_an_option_gives_its_flag(options: dict[str, Any], words: tuple[str, ...]) -> None:
    assert command("mlx", options).argv == (*HEAD, *words)


def test_requests_beyond_a_batch_wait_in_the_router() -> None:
    made = command("mlx", {"decode_concurrency": 4})
    assert has(made.argv, "--decode-concurrency", "4")
    assert made.concurrency == 4


def test_a_folder_is_named_as_it_is_and_asked_for_as_the_default() -> None:
    made = command("mlx", source=FOLDER)
    assert has(made.argv, "--model", "/models/m")
    assert made.served == "default_model"


@pytest.mark.parametrize(
    ("field", "changes"),
    [("model", {"source": MODELSCOPE}), ("model", {"source": FILE}), ("lora", {"lora": {"a": "/lora"}})],
)
def test_what_it_cannot_serve_is_refused(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        command("mlx", **changes)
    assert refused.value.field == field


def test_a_client_cannot_have_another_model_loaded() -> None:
    for members in command("mlx").dialect.takes.values():
        assert not {"adapters", "draft_model"} & members


def test_every_option_has_a_case() -> None:
    assert set(EVERY) == set(LAUNCHERS["mlx"].Options.__struct_fields__)


ASK = """
import inspect, json, re, sys
from mlx_lm import server
given = json.load(sys.stdin)
sys.argv = ["mlx_lm.server", *given["argv"]]
parsed = {}
server.ModelProvider = lambda arguments: parsed.update(vars(arguments))
server.run = lambda *_: None
server.main()
source = inspect.getsource(server.APIHandler)
read = re.findall(r'body(?:\\.get\\(|\\[)\\s*"(\\w+)"', source)
print(json.dumps({"parsed": parsed, "read": sorted(set(read))}, default=str))
"""


def test_its_own_parser_takes_every_option_and_its_server_reads_just_what_is_passed_on() -> None:
    program = installed("mlx", "mlx")
    made = LAUNCHERS["mlx"].command(launch("mlx", EVERY, program=program))
    answer = asked(Path(program.argv[0]).with_name("python"), ASK, {"argv": made.argv[1:]})
    assert {field: answer["parsed"][field] for field in EVERY} == EVERY
    assert answer["parsed"]["port"] == 9001
    passed_on = frozenset[str]().union(*made.dialect.takes.values())
    assert set(answer["read"]) == passed_on | {"adapters", "draft_model"}

from typing import Any

import pytest
from argv_check import faults, table
from launching import FILE, KEY, MODELSCOPE, command, has

from launchers import with_key
from launchers.base import KeepAlive, Program, Refusal
from launchers.lmdeploy import LmdeployOptions

PROGRAM = Program(("/e/bin/python", "-I", "-u", "/e/bin/lmdeploy"))
WRAPPED = ("/e/bin/python", "-I", "-u", with_key.__file__, "--api-keys", "/e/bin/lmdeploy", "serve", "api_server")
HEAD = (*WRAPPED, "org/model", "--model-name", "m", "--server-name", "127.0.0.1", "--server-port", "9001")
# Every option, and the flags that it gives.
EVERY: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"backend": "turbomind"}, ("--backend", "turbomind")),
    ({"tensor_parallel_size": 2}, ("--tp", "2")),
    ({"session_len": 4096}, ("--session-len", "4096")),
    ({"max_batch_size": 8}, ("--max-batch-size", "8")),
    ({"cache_max_entry_count": 0.5}, ("--cache-max-entry-count", "0.5")),
    ({"max_prefill_token_num": 512}, ("--max-prefill-token-num", "512")),
    ({"enable_prefix_caching": True}, ("--enable-prefix-caching",)),
    ({"quant_policy": "int8"}, ("--quant-policy", "int8")),
    ({"dtype": "float16"}, ("--dtype", "float16")),
    ({"model_format": "awq"}, ("--model-format", "awq")),
    ({"tool_call_parser": "qwen3"}, ("--tool-call-parser", "qwen3")),
    ({"reasoning_parser": "qwen-qwq"}, ("--reasoning-parser", "qwen-qwq")),
    ({"chat_template": "/t.json"}, ("--chat-template", "/t.json")),
    ({"revision": "main"}, ("--revision", "main")),
    ({"trust_remote_code": True}, ("--trust-remote-code",)),
]


def made(options: dict[str, Any] | None = None, **changes: Any) -> Any:
    return command("lmdeploy", options, **{"program": PROGRAM} | changes)


def test_a_bare_model_gives_only_what_the_router_needs() -> None:
    bare = made()
    assert bare.argv == HEAD
    assert bare.env == {"ENGINE_API_KEY": KEY, "UVICORN_TIMEOUT_KEEP_ALIVE": "120"}
    assert (bare.served, bare.keep_alive, bare.readiness.path) == ("m", KeepAlive(idle=110), "/health")
    assert set(bare.paths) == {"/v1/chat/completions", "/v1/completions", "/v1/responses"}


@pytest.mark.parametrize(("options", "words"), EVERY)
def test_an_option_gives_its_flag(options: dict[str, Any], words: tuple[str, ...]) -> None:
    assert made(options).argv == (*HEAD, *words)


def test_every_option_has_a_case() -> None:
    assert {field for options, _ in EVERY for field in options} == set(LmdeployOptions.__struct_fields__)


@pytest.mark.parametrize("lora", [{}, {"a": "/a", "b": "/b=c"}])
def test_lmdeploys_own_parser_knows_every_flag(lora: dict[str, str]) -> None:
    options = {field: value for case, _ in EVERY for field, value in case.items() if field != "backend"}
    accelerator = "ascend" if lora else "cuda"
    argv = made(options, lora=lora, accelerator=accelerator, gpus=("0", "1")).argv
    assert faults([*argv[len(WRAPPED) + 1 :], "--api-keys", KEY], table("lmdeploy")) == []


def test_the_key_is_never_an_argument() -> None:
    assert KEY not in " ".join(made().argv)


def test_a_models_gpus_are_all_used() -> None:
    assert has(made(gpus=("0", "1")).argv, "--tp", "2")
    with pytest.raises(Refusal, match="the model has 2"):
        made({"tensor_parallel_size": 3}, gpus=("0", "1"))


def test_adapters_are_models_of_the_pytorch_engine() -> None:
    with_adapters = made(lora={"poet": "/a", "org/x": "org/lora"})
    assert has(with_adapters.argv, "--backend", "pytorch", "--adapters", "poet=/a", "org/x=org/lora")
    assert with_adapters.names == {"poet": "poet", "org/x": "org/x"}
    with pytest.raises(Refusal) as refused:
        made({"backend": "turbomind"}, lora={"poet": "/a"})
    assert refused.value.field == "options.backend"


def test_ascend_has_a_flag_of_its_own() -> None:
    npu = made(gpus=("1",), accelerator="ascend")
    assert has(npu.argv, "--backend", "pytorch", "--device", "ascend")
    assert npu.env["ASCEND_RT_VISIBLE_DEVICES"] == "1"


def test_sources() -> None:
    assert made(source=MODELSCOPE).env["LMDEPLOY_USE_MODELSCOPE"] == "True"
    with pytest.raises(Refusal) as refused:
        made(source=FILE)
    assert refused.value.field == "model"

from typing import Any

import pytest
from argv_check import faults, table
from launching import FILE, FOLDER, KEY, MODELSCOPE, command, has

from launchers.base import KeepAlive, Refusal
from launchers.trtllm import TrtllmOptions

HEAD = ("trtllm", "serve", "org/model", "--host", "127.0.0.1", "--port", "9001")
# Every option, and the flags that it gives.
EVERY: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"backend": "_autodeploy"}, ("--backend", "_autodeploy")),
    ({"tensor_parallel_size": 2}, ("--tp_size", "2")),
    ({"pipeline_parallel_size": 2}, ("--pp_size", "2")),
    ({"expert_parallel_size": 2}, ("--ep_size", "2")),
    ({"max_seq_len": 4096}, ("--max_seq_len", "4096")),
    ({"max_batch_size": 8}, ("--max_batch_size", "8")),
    ({"max_num_tokens": 512}, ("--max_num_tokens", "512")),
    ({"free_gpu_memory_fraction": 0.5}, ("--free_gpu_memory_fraction", "0.5")),
    ({"enable_chunked_prefill": True}, ("--enable_chunked_prefill",)),
    ({"tool_call_parser": "qwen3"}, ("--tool_parser", "qwen3")),
    ({"reasoning_parser": "qwen3"}, ("--reasoning_parser", "qwen3")),
    ({"chat_template": "/t"}, ("--chat_template", "/t")),
    ({"config": "/c.yaml"}, ("--config", "/c.yaml")),
    ({"revision": "main"}, ("--revision", "main")),
    ({"trust_remote_code": True}, ("--trust_remote_code",)),
]


def test_a_bare_model_gives_only_what_the_router_needs() -> None:
    bare = command("trtllm")
    assert bare.argv == HEAD
    assert bare.env == {"PYTHONUNBUFFERED": "1"}
    assert (bare.served, bare.keep_alive) == ("org/model", KeepAlive(idle=4))
    assert (bare.readiness.path, bare.liveness.path) == ("/health_generate", "/health")
    assert "/v1/responses/{id}" in bare.paths
    assert KEY not in str(bare)


@pytest.mark.parametrize(("options", "words"), EVERY)
def test_an_option_gives_its_flag(options: dict[str, Any], words: tuple[str, ...]) -> None:
    assert command("trtllm", options).argv == (*HEAD, *words)


def test_every_option_has_a_case() -> None:
    assert {field for options, _ in EVERY for field in options} == set(TrtllmOptions.__struct_fields__)


def test_its_own_parser_knows_every_flag() -> None:
    options = {field: value for case, _ in EVERY for field, value in case.items()}
    argv = command("trtllm", options).argv
    assert faults(argv[3:], table("trtllm")) == []


@pytest.mark.parametrize("words", [["--tp_size"], ["--trust_remote_code", "1"], ["--backend", "x"], ["--tp-size", "1"]])
def test_a_wrong_flag_would_show(words: list[str]) -> None:
    assert len(faults(words, table("trtllm"))) == 1


def test_a_models_gpus_are_all_used() -> None:
    made = command("trtllm", {"pipeline_parallel_size": 2}, gpus=("0", "1", "2", "3"))
    assert has(made.argv, "--tp_size", "2", "--pp_size", "2")
    assert made.env["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


def test_a_folder_is_called_by_its_last_name() -> None:
    made = command("trtllm", source=FOLDER)
    assert (made.argv[2], made.served) == ("/models/m", "m")


@pytest.mark.parametrize("kind", ["image", "video"])
def test_pictures_need_no_token_to_be_ready(kind: str) -> None:
    made = command("trtllm", kind=kind)
    assert made.readiness.path == "/health"
    assert all(kind in path for path in made.paths)


@pytest.mark.parametrize("changes", [{"source": MODELSCOPE}, {"source": FILE}, {"lora": {"a": "/a"}}])
def test_what_it_cannot_do_is_refused_with_a_remedy(changes: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        command("trtllm", **changes)
    assert refused.value.field == ("lora" if "lora" in changes else "model")
    assert refused.value.remedy

from pathlib import Path
from typing import Any

import pytest
from launching import FILE, FOLDER, HUB, KEY, MODELSCOPE, asked, command, has, installed, launch

from launchers import LAUNCHERS
from launchers.base import Dialect, KeepAlive, Refusal

HEAD = ("vllm", "serve", "org/model", "--served-model-name", "m", "--host", "127.0.0.1", "--port", "9001")
QUIET = ("--disable-access-log-for-endpoints", "/health,/metrics")
# One value for every option, other than vLLM's default.
EVERY: dict[str, Any] = {
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 3,
    "data_parallel_size": 4,
    "gpu_memory_utilization": 0.5,
    "kv_cache_memory_bytes": 1 << 30,
    "max_model_len": 4096,
    "max_num_seqs": 16,
    "max_num_batched_tokens": 8192,
    "max_num_queued_reqs": 99,
    "dtype": "float16",
    "quantization": "fp8",
    "kv_cache_dtype": "fp8",
    "enable_prefix_caching": False,
    "enforce_eager": True,
    "tool_call_parser": "hermes",
    "reasoning_parser": "qwen3",
    "chat_template": "/etc/hostname",
    "trust_remote_code": True,
    "load_format": "safetensors",
    "cpu_offload_gb": 1.5,
    "max_loras": 2,
    "max_cpu_loras": 3,
    "max_lora_rank": 64,
    "distributed_executor_backend": "mp",
    "shutdown_timeout": 7,
    "responses_store": True,
    "omni": False,
    "sleep": True,
}


def test_a_bare_model_gives_only_what_the_router_needs() -> None:
    made = command("vllm")
    assert made.argv == (*HEAD, *QUIET)
    assert made.env == {
        "VLLM_API_KEY": KEY,
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "120",
        "VLLM_ENGINE_READY_TIMEOUT_S": "86400",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }
    assert made.served == "m"
    assert made.dialect == Dialect(nulls=False, counts=True, aborts=True)
    assert made.keep_alive == KeepAlive(idle=110)
    assert {"VLLM_PORT", "VLLM_API_KEY", "VLLM_SERVER_DEV_MODE"} <= set(made.scrub)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tensor_parallel_size": 2}, ("--tensor-parallel-size", "2")),
        ({"gpu_memory_utilization": 0.5}, ("--gpu-memory-utilization", "0.5")),
        ({"enforce_eager": True}, ("--enforce-eager",)),
        ({"enforce_eager": False}, ("--no-enforce-eager",)),
        ({"enable_prefix_caching": False}, ("--no-enable-prefix-caching",)),
        ({"tool_call_parser": "hermes"}, ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")),
        ({"shutdown_timeout": 0}, ("--shutdown-timeout", "0")),
        ({"max_lora_rank": 64}, ("--max-lora-rank", "64")),
        ({"omni": True}, ("--omni",)),
        ({"sleep": True}, ("--enable-sleep-mode",)),
    ],
)
def test_an_option_gives_its_flag(options: dict[str, Any], words: tuple[str, ...]) -> None:
    assert command("vllm", options).argv == (*HEAD, *QUIET, *words)


def test_every_option_has_a_case() -> None:
    assert set(EVERY) == set(LAUNCHERS["vllm"].Options.__struct_fields__)


def test_the_users_own_flags_come_last() -> None:
    assert command("vllm", {"dtype": "auto"}, args=("--dtype", "half")).argv[-2:] == ("--dtype", "half")


@pytest.mark.parametrize(
    ("kind", "public", "path"),
    [
        ("chat", "/v1/messages", "/v1/messages"),
        ("embedding", "/v1/embeddings", "/v1/embeddings"),
        ("chat", "/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("embedding", "/v2/embed", "/v2/embed"),
        ("embedding", "/v1/rerank", "/v1/rerank"),
        ("rerank", "/v1/score", "/v1/score"),
        ("rerank", "/classify", "/classify"),
        ("transcription", "/v1/audio/transcriptions", "/v1/audio/transcriptions"),
        ("transcription", "/v1/realtime", "/v1/realtime"),
        ("speech", "/v1/audio/speech", "/v1/audio/speech"),
        ("image", "/v1/images/edits", "/v1/images/edits"),
        ("video", "/v1/videos/{id}/content", "/v1/videos/{id}/content"),
    ],
)
def test_a_kind_serves_its_paths(kind: str, public: str, path: str) -> None:
    assert command("vllm", kind=kind).paths[public] == path


def test_answers_can_be_read_again_only_where_they_are_kept() -> None:
    kept = command("vllm", {"responses_store": True})
    assert kept.env["VLLM_ENABLE_RESPONSES_API_STORE"] == "1"
    assert kept.paths["/v1/responses/{id}/cancel"] == "/v1/responses/{id}/cancel"
    assert "/v1/responses/{id}" not in command("vllm").paths


@pytest.mark.parametrize("kind", ["speech", "image", "video"])
def test_what_only_omni_serves_is_served_by_it(kind: str) -> None:
    assert "--omni" in command("vllm", kind=kind).argv
    assert "--omni" not in command("vllm").argv


@pytest.mark.parametrize(
    ("changes", "field"), [({"kind": "embedding"}, "options.omni"), ({"lora": {"a": "/a"}}, "lora")]
)
def test_what_omni_lacks_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as refused:
        command("vllm", {"omni": True}, **changes)
    assert refused.value.field == field


def test_adapters_are_models_by_their_public_names() -> None:
    made = command("vllm", lora={"poet": "/a=b", "org/x": "org/lora"})
    adapters = ('{"name": "poet", "path": "/a=b"}', '{"name": "org/x", "path": "org/lora"}')
    assert has(made.argv, "--enable-lora", "--lora-modules", *adapters)
    assert made.names == {"poet": "poet", "org/x": "org/x"}


@pytest.mark.parametrize(("kind", "pools"), [("chat", False), ("embedding", True), ("rerank", True)])
def test_embedding_and_rerank_run_as_pooling_models(kind: str, pools: bool) -> None:
    assert has(command("vllm", kind=kind).argv, "--runner", "pooling") is pools


@pytest.mark.parametrize("source", [HUB, FOLDER, FILE])
def test_hub_folder_and_file_are_named_as_they_are(source: Any) -> None:
    made = command("vllm", source=source)
    assert made.argv[2] == source.value
    assert "VLLM_USE_MODELSCOPE" not in made.env
    assert "VLLM_USE_MODELSCOPE" in made.scrub


def test_modelscope_is_asked_for_by_the_environment() -> None:
    assert command("vllm", source=MODELSCOPE).env["VLLM_USE_MODELSCOPE"] == "True"


def test_sleep_opens_the_endpoints_it_needs() -> None:
    made = command("vllm", {"sleep": True})
    assert made.env["VLLM_SERVER_DEV_MODE"] == "1"


@pytest.mark.parametrize(
    ("gpus", "options", "size"),
    [
        (None, {}, None),
        ((), {}, None),
        (("0",), {}, None),
        (("0", "1"), {}, "2"),
        (("0", "1"), {"tensor_parallel_size": 2}, "2"),
        (("0", "1"), {"pipeline_parallel_size": 2}, None),
        (("0", "1", "2", "3"), {"pipeline_parallel_size": 2}, "2"),
        (("0",), {"tensor_parallel_size": 8, "distributed_executor_backend": "ray"}, "8"),
    ],
)
def test_a_models_gpus_are_all_used(gpus: Any, options: dict[str, Any], size: str | None) -> None:
    argv = command("vllm", options, gpus=gpus).argv
    assert has(argv, "--tensor-parallel-size", size) if size else "--tensor-parallel-size" not in argv


@pytest.mark.parametrize(
    "options",
    [
        {"tensor_parallel_size": 3},
        {"tensor_parallel_size": 1},
        {"pipeline_parallel_size": 3},
        {"data_parallel_size": 4},
    ],
)
def test_parallel_sizes_that_do_not_fit_the_gpus_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="the model has 2") as refused:
        command("vllm", options, gpus=("0", "1"))
    assert refused.value.field == "options.tensor_parallel_size"


def test_chosen_gpus_are_the_only_ones_it_sees() -> None:
    env = command("vllm", gpus=("GPU-a", "GPU-b")).env
    assert (env["CUDA_DEVICE_ORDER"], env["CUDA_VISIBLE_DEVICES"]) == ("PCI_BUS_ID", "GPU-a,GPU-b")
    assert command("vllm", gpus=()).env["CUDA_VISIBLE_DEVICES"] == ""


def test_the_key_is_never_an_argument() -> None:
    assert KEY not in " ".join(command("vllm", EVERY).argv)


PARSE = """
import json, sys
from vllm import envs
from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.utils.argparse_utils import FlexibleArgumentParser
given = json.load(sys.stdin)
parser = FlexibleArgumentParser()
ServeSubcommand().subparser_init(parser.add_subparsers(dest="subparser"))
parsed = vars(parser.parse_args(given["argv"]))
print(json.dumps({"parsed": parsed, "known": sorted(envs.environment_variables)}, default=str))
"""


def test_vllms_own_parser_takes_every_option_and_knows_every_variable() -> None:
    made = LAUNCHERS["vllm"].command(
        launch("vllm", EVERY, kind="embedding", program=installed("vllm", "vllm"), lora={"poet": "/a=b"})
    )
    program, *argv = made.argv
    answer = asked(Path(program).with_name("python"), PARSE, {"argv": argv})
    parsed = answer["parsed"] | {"sleep": answer["parsed"]["enable_sleep_mode"]}
    flagless = {"responses_store", "omni"}  # a variable, and a flag of vLLM-Omni's
    assert {field: parsed[field] for field in EVERY if field not in flagless} == {
        field: value for field, value in EVERY.items() if field not in flagless
    }
    assert "path='/a=b'" in str(parsed["lora_modules"])
    assert parsed["served_model_name"] == ["m"]
    assert (parsed["model_tag"], parsed["runner"], parsed["port"]) == ("org/model", "pooling", 9001)
    assert {name for name in (*made.env, *made.scrub) if name.startswith("VLLM_")} <= set(answer["known"])

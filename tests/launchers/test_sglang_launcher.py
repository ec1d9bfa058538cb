from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from argv_check import faults, table
from launching import FILE, FOLDER, KEY, MODELSCOPE, command, has

from launchers import LAUNCHERS, with_key
from launchers.base import KeepAlive, Program, Refusal
from launchers.sglang_options import SglangOptions

PROGRAM = Program(("/e/bin/python", "-I", "-u", "/e/bin/sglang"))
WRAPPED = ("/e/bin/python", "-I", "-u", with_key.__file__, "--api-key", "/e/bin/sglang", "serve", "--model-type", "llm")
HEAD = (*WRAPPED, "--model-path", "org/model", "--served-model-name", "m", "--host", "127.0.0.1", "--port", "9001")
METRICS = ("--enable-metrics",)
DRAWS = (
    *("/e/bin/python", "-I", "-u", "/e/bin/sglang", "serve", "--model-type", "diffusion"),
    *("--model-path", "org/model", "--served-model-name", "m", "--host", "127.0.0.1", "--port", "9001"),
)
# Every option, and the flags that it gives.
EVERY: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"tensor_parallel_size": 2}, ("--tp-size", "2")),
    ({"pipeline_parallel_size": 2}, ("--pp-size", "2")),
    ({"data_parallel_size": 2}, ("--dp-size", "2")),
    ({"expert_parallel_size": 2}, ("--ep-size", "2")),
    ({"mem_fraction_static": 0.8}, ("--mem-fraction-static", "0.8")),
    ({"context_length": 4096}, ("--context-length", "4096")),
    ({"max_running_requests": 8}, ("--max-running-requests", "8")),
    ({"max_queued_requests": 9}, ("--max-queued-requests", "9")),
    ({"max_total_tokens": 9000}, ("--max-total-tokens", "9000")),
    ({"chunked_prefill_size": -1}, ("--chunked-prefill-size", "-1")),
    ({"schedule_policy": "lpm"}, ("--schedule-policy", "lpm")),
    ({"dtype": "float16"}, ("--dtype", "float16")),
    ({"quantization": "fp8"}, ("--quantization", "fp8")),
    ({"kv_cache_dtype": "fp8_e5m2"}, ("--kv-cache-dtype", "fp8_e5m2")),
    ({"attention_backend": "triton"}, ("--attention-backend", "triton")),
    ({"device": "xpu"}, ("--device", "xpu")),
    ({"radix_cache": False}, ("--disable-radix-cache",)),
    ({"cuda_graph": False}, ("--disable-cuda-graph",)),
    ({"tool_call_parser": "qwen"}, ("--tool-call-parser", "qwen")),
    ({"reasoning_parser": "qwen3"}, ("--reasoning-parser", "qwen3")),
    ({"chat_template": "/t"}, ("--chat-template", "/t")),
    ({"embedding": True}, ("--is-embedding",)),
    ({"load_format": "safetensors"}, ("--load-format", "safetensors")),
    ({"revision": "main"}, ("--revision", "main")),
    ({"trust_remote_code": True}, ("--trust-remote-code",)),
    ({"cpu_offload_gb": 2}, ("--cpu-offload-gb", "2")),
    ({"max_loras_per_batch": 2}, ("--max-loras-per-batch", "2")),
    ({"max_loaded_loras": 4}, ("--max-loaded-loras", "4")),
    ({"max_lora_rank": 32}, ("--max-lora-rank", "32")),
    ({"responses_store": True}, ("--enable-response-store",)),
]

DIFFUSION = {"tensor_parallel_size", "data_parallel_size", "attention_backend", "quantization", "revision"}
DIFFUSION |= {"trust_remote_code"}


def made(options: dict[str, Any] | None = None, **changes: Any) -> Any:
    return command("sglang", options, **{"program": PROGRAM} | changes)


def test_a_bare_model_gives_only_what_the_router_needs() -> None:
    bare = made()
    assert bare.argv == (*HEAD, *METRICS)
    assert bare.env == {
        "ENGINE_API_KEY": KEY,
        "SGLANG_TIMEOUT_KEEP_ALIVE": "120",
        "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0",
    }
    assert (bare.served, bare.keep_alive) == ("m", KeepAlive(idle=110))
    assert (bare.readiness.path, bare.liveness.path) == ("/ready", "/health")
    assert {"SGLANG_USE_MODELSCOPE", "SGLANG_GRPC_PORT"} <= set(bare.scrub)


@pytest.mark.parametrize(("options", "words"), EVERY)
def test_an_option_gives_its_flag(options: dict[str, Any], words: tuple[str, ...]) -> None:
    argv = made(options).argv
    assert (argv[: len(HEAD)], argv[len(HEAD) :]) == (HEAD, (*METRICS, *words))


def test_every_option_has_a_case() -> None:
    assert {field for options, _ in EVERY for field in options} == set(SglangOptions.__struct_fields__)


@pytest.mark.parametrize("kind", ["chat", "embedding", "rerank", "transcription"])
def test_sglangs_own_parser_knows_every_flag(kind: str) -> None:
    options = {field: value for case, _ in EVERY for field, value in case.items()}
    argv = made(options, kind=kind, lora={"a": "/a", "b": "/b"}).argv
    assert faults(argv[len(WRAPPED) :], table("sglang")) == []


def test_sglangs_own_parser_knows_every_choice() -> None:
    known = table("sglang")
    hints = get_type_hints(SglangOptions)
    for field in ("schedule_policy", "dtype"):
        ours = {choice for part in get_args(hints[field]) for choice in get_args(part)}
        assert ours
        assert ours <= known[f"--{field.replace('_', '-')}"][1], field


def test_the_key_is_added_by_a_flag_of_its_own() -> None:
    assert faults(["--api-key", KEY], table("sglang")) == []
    assert KEY not in " ".join(made().argv)


def test_the_users_own_flags_come_last() -> None:
    assert made({"dtype": "auto"}, args=("--dtype", "half")).argv[-2:] == ("--dtype", "half")


@pytest.mark.parametrize("kind", ["embedding", "rerank"])
def test_vectors_and_scores_run_as_embedding_models_unless_told_otherwise(kind: str) -> None:
    assert "--is-embedding" in made(kind=kind).argv
    assert "--is-embedding" not in made({"embedding": False}, kind=kind).argv


@pytest.mark.parametrize(
    ("kind", "public", "path"),
    [
        ("chat", "/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("embedding", "/v1/embeddings", "/v1/embeddings"),
        ("rerank", "/v2/rerank", "/v1/rerank"),
        ("rerank", "/classify", "/v1/classify"),
        ("transcription", "/v1/realtime", "/v1/realtime"),
        ("image", "/v1/images/{id}/content", "/v1/images/{id}/content"),
        ("video", "/v1/videos/{id}", "/v1/videos/{id}"),
    ],
)
def test_a_kind_serves_its_paths(kind: str, public: str, path: str) -> None:
    assert made(kind=kind).paths[public] == path


def test_answers_can_be_read_again_only_where_they_are_kept() -> None:
    assert "/v1/responses/{id}" not in made().paths
    assert "/v1/responses/{id}/cancel" in made({"responses_store": True}).paths


def test_adapters_are_called_by_the_model_and_their_name() -> None:
    with_adapters = made(lora={"poet": "/a=b", "org/x": "org/lora"}, name="qwen:8b")
    assert with_adapters.served == "qwen-8b"
    assert with_adapters.names == {"poet": "qwen-8b:poet", "org/x": "qwen-8b:org/x"}
    assert has(
        with_adapters.argv,
        "--lora-paths",
        '{"lora_name": "poet", "lora_path": "/a=b"}',
        '{"lora_name": "org/x", "lora_path": "org/lora"}',
    )


@pytest.mark.parametrize(
    ("gpus", "options", "words"),
    [
        (("0", "1"), {}, ("--tp-size", "2")),
        (("0", "1"), {"data_parallel_size": 2}, ("--dp-size", "2")),
        ((), {}, ("--device", "cpu")),
    ],
)
def test_a_models_gpus_are_all_used(gpus: Any, options: dict[str, Any], words: tuple[str, ...]) -> None:
    argv = made(options, gpus=gpus).argv
    assert has(argv, *words)
    assert ("--tp-size" in argv) is ("--tp-size" in words)


def test_sizes_that_do_not_fit_the_gpus_are_refused() -> None:
    with pytest.raises(Refusal, match="the model has 2"):
        made({"tensor_parallel_size": 3}, gpus=("0", "1"))


def test_modelscope_is_asked_for_by_the_environment() -> None:
    assert made(source=MODELSCOPE).env["SGLANG_USE_MODELSCOPE"] == "true"
    assert made(source=MODELSCOPE, kind="image").env["SGLANG_USE_MODELSCOPE"] == "true"
    assert "SGLANG_USE_MODELSCOPE" not in made(source=FOLDER).env
    assert has(made(source=FILE).argv, "--model-path", "/models/m.gguf")


@pytest.mark.parametrize("kind", ["image", "video"])
def test_pictures_are_made_by_its_other_server_which_has_no_key(kind: str) -> None:
    drawn = made(kind=kind, gpus=("2", "3"))
    assert drawn.argv == (*DRAWS, "--num-gpus", "2")
    assert drawn.env == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "2,3"}
    assert (drawn.readiness.path, drawn.keep_alive) == ("/health", KeepAlive(idle=4))


def test_the_diffusion_server_knows_every_flag() -> None:
    options = {field: value for case, _ in EVERY for field, value in case.items() if field in DIFFUSION}
    argv = made(options, kind="image", gpus=("0", "1")).argv
    assert faults(argv[7:], table("sglang-diffusion")) == []
    assert {"--tp-size", "--data-parallel-size", "--trust-remote-code"} <= set(argv)


@pytest.mark.parametrize("options", [case for case, _ in EVERY if not DIFFUSION & set(case)])
def test_what_the_diffusion_server_lacks_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        made(options, kind="image")
    assert refused.value.field == f"options.{next(iter(options))}"


def test_the_diffusion_server_has_no_adapters_of_their_own_name() -> None:
    with pytest.raises(Refusal) as refused:
        made(kind="video", lora={"a": "/a"})
    assert refused.value.field == "lora"


def test_the_engine_is_found_with_the_interpreter_it_is_meant_for(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").touch()
    (folder / "sglang").write_text("#!/no/such/python3\n")
    launcher = LAUNCHERS["sglang"]
    found = launcher.find([tmp_path], SglangOptions())
    assert found == Program((str(folder / "python"), "-I", "-u", str(folder / "sglang")))
    other = tmp_path / "python3.11"
    other.touch()
    (folder / "sglang").write_text(f"#!{other}\n")
    found = launcher.find([tmp_path], SglangOptions())
    assert found is not None
    assert found.argv[0] == str(other)

from pathlib import Path
from typing import Any

import pytest
from launching import FILE, FOLDER, HUB, KEY, MODELSCOPE, command, has

from launchers import LAUNCHERS
from launchers.base import Dialect, KeepAlive, Program, Refusal, Source

SERVER = Program(("llama-server",), "server")
WRAPPER = Program(("python", "wrapper"), "xllamacpp")
PYTHON = Program(("python", "-m", "llama_cpp.server"), "python")
OWN = (
    *("--model", "/models/m.gguf", "--alias", "m", "--host", "127.0.0.1", "--port", "9001", "--metrics", "--no-webui"),
    *("--threads-http", "20"),
)
BINDING = (
    *("--model", "/models/m.gguf", "--model_alias", "m", "--host", "127.0.0.1", "--port", "9001"),
    *("--interrupt_requests", "False"),
)
# Options, the flags of llama.cpp's own server, and those of llama-cpp-python's.
IN_EVERY_FORM: list[tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
    ({"context": 0}, ("--ctx-size", "0"), ("--n_ctx", "0")),
    ({"gpu_layers": 12}, ("--gpu-layers", "12"), ("--n_gpu_layers", "12")),
    ({"gpu_layers": "all"}, ("--gpu-layers", "all"), ("--n_gpu_layers", "-1")),
    ({"split_mode": "row"}, ("--split-mode", "row"), ("--split_mode", "2")),
    ({"tensor_split": [3, 1]}, ("--tensor-split", "3.0,1.0"), ("--tensor_split", "3.0", "1.0")),
    ({"main_gpu": 1}, ("--main-gpu", "1"), ("--main_gpu", "1")),
    ({"flash_attention": True}, ("--flash-attn", "on"), ("--flash_attn", "True")),
    ({"flash_attention": False}, ("--flash-attn", "off"), ("--flash_attn", "False")),
    ({"cache_type_k": "q8_0"}, ("--cache-type-k", "q8_0"), ("--type_k", "8")),
    ({"cache_type_v": "bf16"}, ("--cache-type-v", "bf16"), ("--type_v", "30")),
    ({"batch": 64}, ("--batch-size", "64"), ("--n_batch", "64")),
    ({"ubatch": 32}, ("--ubatch-size", "32"), ("--n_ubatch", "32")),
    ({"threads": 2}, ("--threads", "2"), ("--n_threads", "2")),
    ({"lora": ["/a.gguf"]}, ("--lora", "/a.gguf"), ("--lora_path", "/a.gguf")),
]
IN_OWN_FORMS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"slots": 4}, ("--parallel", "4")),
    ({"pooling": "cls"}, ("--pooling", "cls")),
    ({"jinja": False}, ("--no-jinja",)),
    ({"chat_template": "/t"}, ("--chat-template-file", "/t")),
    ({"reasoning_format": "none"}, ("--reasoning-format", "none")),
    ({"lora": ["/a", "/b"]}, ("--lora", "/a,/b")),
    ({"lora_on_request": True, "lora": ["/a", "/b"]}, ("--lora-scaled", "/a:0,/b:0", "--no-cache-prompt")),
    ({"mmproj": "/p"}, ("--mmproj", "/p")),
]


def made(program: Program, options: dict[str, Any] | None = None, **changes: Any) -> Any:
    return command("llamacpp", options, **{"program": program, "source": FILE} | changes)


@pytest.mark.parametrize("program", [SERVER, WRAPPER])
def test_a_bare_model_gives_only_what_the_router_needs(program: Program) -> None:
    bare = made(program)
    assert bare.argv == (*program.argv, *OWN)
    assert bare.env == {"LLAMA_API_KEY": KEY}
    assert {"LLAMA_ARG_*", "LLAMA_API_KEY"} <= set(bare.scrub)
    assert bare.keep_alive == KeepAlive(idle=4, requests=100)
    assert bare.readiness.path == "/health"
    assert bare.concurrency == 4
    assert bare.dialect == Dialect(nulls=False, logits=True)


@pytest.mark.parametrize("program", [SERVER, WRAPPER])
def test_there_is_a_thread_for_each_request_and_some_for_probes(program: Program) -> None:
    many = made(program, {"slots": 100})
    assert many.concurrency == 100
    assert has(many.argv, "--threads-http", "116")


@pytest.mark.parametrize("args", [("-np", "9"), ("--parallel=9",), ("--parallel", "2", "-np", "9")])
def test_slots_that_are_given_as_a_raw_flag_count_as_well(args: tuple[str, ...]) -> None:
    assert made(SERVER, {"slots": 3}, args=args).concurrency == 9


def test_a_bare_model_in_the_python_form() -> None:
    bare = made(PYTHON)
    assert bare.argv == (*PYTHON.argv, *BINDING)
    assert bare.env == {"API_KEY": KEY}
    assert {"HOST", "PORT", "API_KEY", "MODEL", "SEED", "CACHE", "N_CTX", "CONFIG_FILE"} <= set(bare.scrub)
    assert (bare.keep_alive, bare.concurrency) == (KeepAlive(idle=4), 1)
    assert bare.readiness.path == bare.liveness.path == "/openapi.json"
    assert bare.dialect == Dialect(nulls=False, tokens=False, base64=False)


@pytest.mark.parametrize(("options", "own", "binding"), IN_EVERY_FORM)
def test_an_option_gives_its_flag_in_each_form(
    options: dict[str, Any], own: tuple[str, ...], binding: tuple[str, ...]
) -> None:
    for program in (SERVER, WRAPPER):
        assert made(program, options).argv == (*program.argv, *OWN, *own)
    assert made(PYTHON, options).argv == (*PYTHON.argv, *BINDING, *binding)


@pytest.mark.parametrize(("options", "own"), IN_OWN_FORMS)
def test_what_the_python_form_lacks_is_refused_there(options: dict[str, Any], own: tuple[str, ...]) -> None:
    assert made(SERVER, options).argv == (*SERVER.argv, *OWN, *own)
    with pytest.raises(Refusal, match=r"options\.form") as refused:
        made(PYTHON, options)
    assert refused.value.field == f"options.{next(iter(options))}"


def test_kinds_turn_on_what_they_need() -> None:
    assert has(made(SERVER, kind="embedding").argv, "--embeddings")
    assert has(made(WRAPPER, kind="rerank").argv, "--reranking")
    assert has(made(PYTHON, kind="embedding").argv, "--embedding", "True")
    with pytest.raises(Refusal, match="rerank"):
        made(PYTHON, kind="rerank")


def test_a_kind_serves_its_paths() -> None:
    assert made(SERVER, kind="rerank").paths["/v2/rerank"] == "/v1/rerank"
    assert {"/v1/responses", "/v1/messages/count_tokens", "/apply-template", "/infill"} <= set(made(SERVER).paths)
    assert set(made(WRAPPER, kind="transcription").paths) == {"/v1/audio/transcriptions"}
    assert "/v1/chat/completions" not in made(SERVER, kind="embedding").paths
    assert set(made(PYTHON).paths) == {"/v1/chat/completions", "/v1/completions"}


def test_adapters_on_request_have_to_be_there() -> None:
    with pytest.raises(Refusal) as refused:
        made(SERVER, {"lora_on_request": True})
    assert refused.value.field == "options.lora_on_request"


@pytest.mark.parametrize("program", [SERVER, WRAPPER, PYTHON])
def test_adapters_as_models_are_refused_with_the_way_to_have_them(program: Program) -> None:
    with pytest.raises(Refusal, match=r"options\.lora") as refused:
        made(program, lora={"a": "/a.gguf"})
    assert refused.value.field == "lora"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (SERVER, ("--device", "none")),
        (WRAPPER, ("--gpu-layers", "0")),
        (PYTHON, ("--n_gpu_layers", "0")),
    ],
)
def test_a_model_without_gpus_stays_off_them(program: Program, words: tuple[str, ...]) -> None:
    cpu = made(program, gpus=())
    assert has(cpu.argv, *words)
    assert cpu.env["CUDA_VISIBLE_DEVICES"] == ""
    with pytest.raises(Refusal) as refused:
        made(program, {"gpu_layers": 4}, gpus=())
    assert refused.value.field == "options.gpu_layers"


def test_the_python_form_uses_the_gpus_it_is_given() -> None:
    assert has(made(PYTHON, gpus=("0",)).argv, "--n_gpu_layers", "-1")
    assert "--gpu-layers" not in made(SERVER, gpus=("0",)).argv  # llama-server fits them by itself


def test_a_hub_id_is_downloaded_by_the_forms_that_can() -> None:
    assert has(made(SERVER, source=HUB).argv, "--hf-repo", "org/model")
    quantised = made(PYTHON, source=Source("hub", "org/model:Q4_K_M")).argv
    assert has(quantised, "--hf_model_repo_id", "org/model", "--model", "*Q4_K_M*.gguf")


@pytest.mark.parametrize(
    ("program", "source"),
    [(WRAPPER, HUB), (PYTHON, HUB), (SERVER, MODELSCOPE), (WRAPPER, MODELSCOPE), (PYTHON, MODELSCOPE)],
)
def test_other_sources_are_refused_with_a_remedy(program: Program, source: Source) -> None:
    with pytest.raises(Refusal) as refused:
        made(program, source=source)
    assert refused.value.field == "model"
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.gguf"], "a.gguf"),
        (["a.gguf", "mmproj-a.gguf", "readme.md"], "a.gguf"),
        (["a-00002-of-00002.gguf", "a-00001-of-00002.gguf"], "a-00001-of-00002.gguf"),
    ],
)
@pytest.mark.parametrize("program", [SERVER, WRAPPER, PYTHON])
def test_a_folder_means_its_one_model(tmp_path: Path, names: list[str], chosen: str, program: Program) -> None:
    for name in names:
        (tmp_path / name).touch()
    argv = made(program, source=Source("folder", str(tmp_path))).argv
    assert has(argv, "--model", str(tmp_path / chosen))


@pytest.mark.parametrize("names", [[], ["a.gguf", "b.gguf"]])
def test_a_folder_that_could_mean_anything_is_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(Refusal, match=r"one \.gguf"):
        made(SERVER, source=Source("folder", str(tmp_path)))


def test_an_absent_folder_is_refused() -> None:
    with pytest.raises(Refusal):
        made(SERVER, source=FOLDER)


def test_every_option_has_a_case() -> None:
    cases = {field for options, *_ in (*IN_EVERY_FORM, *IN_OWN_FORMS) for field in options}
    assert cases | {"form"} == set(LAUNCHERS["llamacpp"].Options.__struct_fields__)

from pathlib import Path
from typing import Any

import pytest
from launching import FILE, FOLDER, KEY, MODELSCOPE, asked, command, has, installed, launch

from launchers import LAUNCHERS
from launchers.base import Dialect, KeepAlive, Refusal

HEAD = ("infinity", "v2", "--model-id", "org/model", "--served-model-name", "m", "--host", "127.0.0.1")
REST = ("--port", "9001", "--url-prefix", "/v1")
# One value for every option, other than infinity's default, and what infinity's parser shall make of it.
EVERY: dict[str, tuple[Any, str, Any]] = {
    "device": ("cpu", "device", "cpu"),
    "batch_size": (8, "batch_size", 8),
    "dtype": ("float16", "dtype", "float16"),
    "embedding_dtype": ("int8", "embedding_dtype", "int8"),
    "engine": ("optimum", "engine", "optimum"),
    "pooling_method": ("cls", "pooling_method", "cls"),
    "revision": ("main", "revision", "main"),
    "trust_remote_code": (False, "trust_remote_code", False),
    "bettertransformer": (False, "bettertransformer", False),
    "compile": (False, "compile", False),
    "warmup": (False, "model_warmup", False),
    "lengths_via_tokenize": (True, "lengths_via_tokenize", True),
    "vector_disk_cache": (True, "vector_disk_cache", True),
}


def test_a_bare_model_gives_only_what_the_router_needs() -> None:
    made = command("infinity")
    assert made.argv == (*HEAD, *REST, "--no-trust-remote-code")
    assert made.env == {
        "INFINITY_API_KEY": KEY,
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }
    assert "INFINITY_*" in made.scrub
    assert made.keep_alive == KeepAlive(idle=4)
    assert made.readiness.path == "/health"
    assert made.dialect == Dialect(nulls=False, tokens=False, max_inputs=2048)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 8}, ("--batch-size", "8")),
        ({"dtype": "float16"}, ("--dtype", "float16")),
        ({"trust_remote_code": True}, ("--trust-remote-code",)),
        ({"bettertransformer": False}, ("--no-bettertransformer",)),
        ({"warmup": False}, ("--no-model-warmup",)),
        ({"device": "cpu"}, ("--device", "cpu")),
    ],
)
def test_an_option_gives_its_flag(options: dict[str, Any], words: tuple[str, ...]) -> None:
    assert has(command("infinity", options).argv, *words)


@pytest.mark.parametrize(
    ("gpus", "options", "words"),
    [
        ((), {}, ("--device", "cpu")),
        (("1",), {}, ("--device", "cuda", "--device-id", "0")),
        (("1", "3"), {}, ("--device", "cuda", "--device-id", "0,1")),
        (("1",), {"device": "auto"}, ("--device", "auto", "--device-id", "0")),
    ],
)
def test_gpus_choose_the_device(gpus: tuple[str, ...], options: dict[str, Any], words: tuple[str, ...]) -> None:
    made = command("infinity", options, gpus=gpus)
    assert has(made.argv, *words)
    assert made.env["CUDA_VISIBLE_DEVICES"] == ",".join(gpus)


def test_every_public_rerank_path_is_its_one() -> None:
    paths = command("infinity", kind="rerank").paths
    assert paths == {"/v1/rerank": "/v1/rerank", "/v2/rerank": "/v1/rerank", "/classify": "/v1/classify"}
    assert command("infinity").paths == {"/v1/embeddings": "/v1/embeddings"}


def test_adapters_are_refused() -> None:
    with pytest.raises(Refusal) as refused:
        command("infinity", lora={"a": "/a"})
    assert refused.value.field == "lora"


@pytest.mark.parametrize("source", [MODELSCOPE, FILE])
def test_what_it_cannot_load_is_refused_with_a_remedy(source: Any) -> None:
    with pytest.raises(Refusal) as refused:
        command("infinity", source=source)
    assert refused.value.field == "model"
    assert "folder" in refused.value.remedy


def test_a_folder_is_named_as_it_is() -> None:
    assert has(command("infinity", source=FOLDER).argv, "--model-id", "/models/m")


def test_every_option_has_a_case() -> None:
    assert set(EVERY) == set(LAUNCHERS["infinity"].Options.__struct_fields__)


PARSE = """
import enum, json, sys
import typer
from infinity_emb.cli import tp
given = json.load(sys.stdin)
v2 = typer.main.get_command(tp).commands["v2"]
parsed = v2.make_context("v2", given["argv"]).params
plain = lambda value: value.value if isinstance(value, enum.Enum) else str(value)
from pydantic import ValidationError
from infinity_emb.fastapi_schemas.pymodels import _OpenAIEmbeddingInput_Text as Body
def takes(**body):
    try:
        Body(**body)
    except ValidationError:
        return False
    return True
most = given["most"]
taken = [takes(input=["a"] * most), takes(input=["a"] * (most + 1)), takes(input=[[1]]), takes(input="a", user=None,
         dimensions=None)]
variables = [option.envvar for option in v2.params]
print(json.dumps({"parsed": parsed, "variables": variables, "taken": taken}, default=plain))
"""


def test_infinitys_own_parser_takes_every_option_and_its_schema_what_the_dialect_says() -> None:
    options = {field: value for field, (value, _, _) in EVERY.items()}
    program = installed("infinity", "infinity")
    made = LAUNCHERS["infinity"].command(launch("infinity", options, program=program, gpus=("0", "1")))
    python = Path(program.argv[0]).with_name("python")
    answer = asked(python, PARSE, {"argv": made.argv[2:], "most": made.dialect.max_inputs})
    for field, (_, name, expected) in EVERY.items():
        assert answer["parsed"][name] == [expected], field
    assert answer["parsed"]["device_id"] == ["0,1"]
    assert answer["parsed"]["url_prefix"] == "/v1"
    assert "`INFINITY_API_KEY`" in answer["variables"]
    assert answer["taken"] == [True, False, made.dialect.tokens, made.dialect.nulls]

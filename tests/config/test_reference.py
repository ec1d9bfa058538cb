"""The reference and the JSON schema are what the descriptions say, and hold for the files that people read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from launchers import LAUNCHERS
from router.config import ConfigError, Fault, load
from router.config.json_schema import about
from router.config.reference import PAGES, files, json_schema, reference
from router.config.schema import AliasEntry, KeyEntry, LogEntry, ModelEntry, RouterFile, Shared

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs"
MADE = files()
STRUCTS = (
    *(RouterFile, ModelEntry, AliasEntry, Shared, KeyEntry, LogEntry),
    *(launcher.Options for launcher in LAUNCHERS.values()),
)


def refuses(text: str) -> bool:
    return not jsonschema.Draft7Validator(json_schema()).is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("name", MADE)
def test_the_committed_file_is_the_generated_one(name: str) -> None:
    assert (REPOSITORY / name).read_text(encoding="utf-8") == MADE[name], "run `python -m router.config.reference`"


def test_there_is_a_page_for_each_engine_and_no_other() -> None:
    assert sorted(file.stem for file in (REPOSITORY / PAGES).iterdir()) == sorted(LAUNCHERS)


@pytest.mark.parametrize("engine", LAUNCHERS)
def test_the_page_of_an_engine_has_its_kinds_and_options_and_a_file_to_copy(engine: str) -> None:
    launcher, page = LAUNCHERS[engine], MADE[f"{PAGES}/{engine}.md"]
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row in launcher.kinds] != []
    assert set(launcher.kinds) | {field.name for field in msgspec.structs.fields(launcher.Options)} >= set(rows[1:])
    assert {field.name for field in msgspec.structs.fields(launcher.Options)} <= set(rows)
    assert set(launcher.kinds) <= set(rows)
    example = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    jsonschema.validate(example, json_schema(), jsonschema.Draft7Validator)
    assert {model["engine"] for model in example["models"].values()} == {engine}


def test_a_page_says_what_the_router_does_for_the_engine() -> None:
    page = MADE[f"{PAGES}/transformers.md"]
    assert (
        "\n- (`chat`) Of a request to `/v1/completions` it is sent what it knows, and no more: `best_of`, `echo`"
        in page
    )
    assert "\n- Fields that are `null` are left out" in page
    assert "router install transformers --cpu " in page


def test_a_page_tells_the_forms_of_an_engine_apart() -> None:
    page = MADE[f"{PAGES}/llamacpp.md"]
    assert "\n| `embedding` with `form: python` | `/v1/embeddings` |\n" in page
    assert (
        "\n- (`chat`, `embedding` with `form: python`) Where its options say nothing else it gets one request" in page
    )


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_every_setting_is_described_and_stands_in_the_reference(kind: type[msgspec.Struct]) -> None:
    text = reference()
    for field in msgspec.structs.fields(kind):
        assert about(field.type)[0], f"{kind.__name__}.{field.name} has no description"
        assert f"{field.name}: " in text or f"{field.name}:\n" in text, field.name


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(json_schema())


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_every_example_passes_the_schema(file: Path) -> None:
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), json_schema(), jsonschema.Draft7Validator)


def test_the_loader_takes_the_reference_but_for_engines_that_are_not_here(tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    file.write_text(reference().replace("~/", f"{tmp_path}/"), encoding="utf-8")
    # One form of llama.cpp does not download, and it may be the one that is found.
    absent = ("is not installed", "no program", "does not download", "sockets below it")
    assert [fault for fault in faults(file) if not any(word in fault.problem for word in absent)] == []


def faults(file: Path) -> list[Fault]:
    try:
        load(file, list, {})
    except ConfigError as error:
        return error.faults
    return []


URL = "models: {a: {url: http://h}}\n"
ENGINE = "models: {a: {engine: vllm, model: a/b, "


@pytest.mark.parametrize(
    "text",
    [
        URL,
        URL + "keys:\nx-mine: 1\nlisten: ${A}\nlog: {keep: '${N}', max_size: 5MiB}",
        ENGINE + "args: [--a, 1], env: {A: 1}, gpus: [0, GPU-1], options: {max_model_len: 5}, stop_grace: 0}}",
        "models: {a: {engine: command, options: {argv: [a]}}}",
        "models: {a: {url: http://h, aliases: {b: , c: {set: {x: [1, null]}, drop: [y]}}, set: , info: {x: 1}}}",
        URL[:-2] + ", b: {url: http://h}, g: {group: {a: 3}, fallback: [b], aliases: [h], default: {x: 1}}}",
        ENGINE + "lora: {b: org/c}, keepalive: 0, retry_budget: 1, normalize_scores: false}}",
    ],
)
def test_the_schema_takes_what_the_loader_takes(text: str) -> None:
    assert not refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "models: {}",
        URL + "lisen: x",
        URL + "body_timeout: 0s",
        URL + "body_timeout: 10",
        URL + "max_body: 10",
        URL + "log: {keep: 101}",
        URL + "auth: off",
        "models: {a: {}}",
        "models: {a: {url: x, engine: vllm}}",
        "models: {a: {engine: vlm}}",
        "models: {a: {engine: vllm}}",
        ENGINE + "env: {A: true}}}",
        "models: {a: {engine: infinity, model: a/b, kind: image}}",
        ENGINE + "options: {threads: 1}}}",
        ENGINE + "replicas: 0}}",
        "models: {a: {engine: command}}",
        "models: {a: {url: x, aliases: {b: 5}}}",
        "models: {a: {url: x, aliases: {b: {sett: {}}}}}",
        "models: {a: {url: x, set: {model: b}}}",
        "models: {a: {url: x, aliases: {b: {default: {stream: true}}}}}",
        URL + "defaults: {retry_budget: 2}",
        URL[:-2] + ", g: {group: {}}}",
        URL[:-2] + ", g: {group: {a: 0}}}",
        URL[:-2] + ", g: {group: {a: 1}, kind: chat}}",
        URL[:-2] + ", g: {group: {a: 1}, url: x}}",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text: str, tmp_path: Path) -> None:
    assert refuses(text)
    (tmp_path / "router.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load(tmp_path / "router.yaml", list, {})


def router(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "router", *words], capture_output=True, text=True, check=False)


def test_check_prints_the_schema() -> None:
    done = router("check", "--schema")
    assert json.loads(done.stdout) == json_schema()


def test_check_prints_every_fault_and_ends_with_2(tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    file.write_text("models: {a: {engine: nope}}\nlisten: x")
    done = router("check", "-c", str(file))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f'{file}:1: models.a.engine: no engine is called "nope"; one of: {", ".join(LAUNCHERS)}',
        f'{file}:2: listen: "x" is not an address and a port; add the port: 127.0.0.1:8000',
        "2 faults",
    ]


def test_check_is_light() -> None:
    script = "import sys, router.config, router.cli.check; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy: set[Any] = {"uvicorn", "starlette", "httpx2", "rich", "pynvml", "asyncio", "jsonschema"}
    assert heavy.isdisjoint(done.stdout.split())

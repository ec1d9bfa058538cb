"""The documents, held against the code."""

import ast
import json
import re
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml

from launchers import LAUNCHERS
from router import errors
from router.catalog import Catalog, Model
from router.cli import COMMANDS
from router.config import load
from router.console.metrics import Metrics
from router.measures import Measures, Record
from router.proxy.paths import OPEN, PATHS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_has_each_command(name: str) -> None:
    assert f"| `router {name}" in README


@pytest.mark.parametrize("path", [*PATHS, *OPEN])
def test_the_readme_has_each_path(path: str) -> None:
    assert f"`{path}`" in README


def test_the_readme_names_no_path_that_is_not_served() -> None:
    table = README.partition("## What is served")[2].partition("\n\n##")[0]
    own = {"/v1/models", "/v1/models/{id}", "/metrics", *OPEN}
    assert set(re.findall(r"`(/[\w/{}]+)`", table)) == {*PATHS, *own}


def test_the_readme_names_the_metrics() -> None:
    measures = Measures()
    measures.of("m", "/v1/embeddings").duration.observe(1.0)
    catalog = Catalog([Model("m", kind="chat", engine="e", limits=None)])  # type: ignore[arg-type]  # nobody waits
    text, _ = Metrics(measures, catalog, list)._render(list(measures.sums.items()), [("m", 0, 0)], [], "")
    names = set(re.findall(r"^# TYPE (router_\w+)", text.decode(), re.MULTILINE))
    assert names == set(re.findall(r"`(router_\w+)`", README))


def test_the_readme_shows_a_line_of_the_requests_log() -> None:
    line = README.partition("```json\n")[2].partition("```")[0].replace("\n", "")
    assert msgspec.json.decode(line, type=Record, strict=True).model == "qwen3-8b"
    shown = set(msgspec.json.decode(line)) | {"stream", "retries", "error"}
    assert shown == {field.name for field in msgspec.structs.fields(Record)}


def codes() -> set[str]:
    """Every `code` that an error of the router can carry: its class's own, and those given where it is raised."""
    found = {value.code for value in vars(errors).values() if hasattr(value, "code") and hasattr(value, "status")}
    for file in (ROOT / "router").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                found.add(node.value.value)
    return {str(code) for code in found if code}


@pytest.mark.parametrize("code", sorted(codes()))
def test_the_readme_has_each_error_code(code: str) -> None:
    assert f"`{code}`" in README


@pytest.mark.parametrize("engine", [name for name, launcher in LAUNCHERS.items() if launcher.recipes])
def test_the_readme_says_how_each_engine_is_installed(engine: str) -> None:
    assert f"| `{engine}" in README
    for recipe in LAUNCHERS[engine].recipes:
        assert recipe in ("cpu", "gpu", engine, "xllamacpp") or f"--form {recipe}`" in README


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text())
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_files_that_the_documents_name_exist() -> None:
    for document in ("ARCHITECTURE.md", "CONTRIBUTING.md"):
        for name in re.findall(r"`((?:router|launchers|tests|proxy|fleet|console|config)/[\w/.]+\.(?:py|yaml))`",
                               (ROOT / document).read_text()):  # fmt: skip
            assert (ROOT / name).exists() or (ROOT / "router" / name).exists(), f"{document} names {name}"


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_the_files_that_the_readme_shows_fit_the_schema(text: str) -> None:
    schema = json.loads((ROOT / "configs/router.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(text), schema)


def test_the_file_that_the_readme_shows_lacks_nothing_but_engines_and_gpus(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    file = tmp_path / "router.yaml"
    file.write_text(text.replace("gpus: [0]", "gpus: none") + f"engines_dir: {tmp_path}\n")
    for program in ("vllm/bin/vllm", "infinity/bin/infinity_emb"):
        (tmp_path / program).parent.mkdir(parents=True)
        (tmp_path / program).touch()
    config = load(file, list, {"DIFY_KEY": "0123456789"})
    assert [(model.name, model.kind) for model in config.models] == [
        ("qwen3-8b", "chat"),
        ("bge-m3", "embedding"),
        ("bge-reranker", "rerank"),
    ]

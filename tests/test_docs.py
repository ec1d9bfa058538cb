"""The documents, held against the code."""

import ast
import json
import re
from pathlib import Path

import click
import jsonschema
import msgspec
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from launchers import LAUNCHERS
from router import errors
from router.catalog import Catalog
from router.cli import COMMANDS, group
from router.config import load
from router.console.metrics import Load, Metrics
from router.fleet.diagnosis import Diagnosis
from router.fleet.rows import Row
from router.measures import Measures, Record
from router.proxy import named
from router.proxy.paths import OPEN, PATHS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    *sorted(file.name for file in ROOT.glob("*.md")),
    *sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("docs/**/*.md")),
]
TEXTS = {name: (ROOT / name).read_text() for name in DOCUMENTS}


def shown_commands(text: str) -> list[str]:
    """The command lines of `router` in a document: between backticks, and in what a shell is shown."""
    shells = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^(?:\S*/)?router ([a-z]+(?: [^#|\n]*)?)", shells, re.MULTILINE)
    return [*lines, *re.findall(r"`router ([a-z]+[^`]*)`", text)]


def example() -> Record:
    """The line of the requests' log that the README shows."""
    line = README.partition("```json\n")[2].partition("```")[0].replace("\n", "")
    return msgspec.json.decode(line, type=Record, strict=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_has_each_command(name: str) -> None:
    assert f"| `router {name}" in README


@pytest.mark.parametrize("path", [*PATHS, *OPEN])
def test_the_readme_has_each_path(path: str) -> None:
    assert f"`{path}`" in README


def test_the_readme_names_no_path_that_is_not_served() -> None:
    table = README.partition("| path | which models |")[2].partition("\n\n")[0]
    own = {"/v1/models", "/v1/models/{id}", "/metrics", *OPEN}
    assert set(re.findall(r"`(/[\w/{}-]+)`", table)) == {*PATHS, *own}


def test_the_readme_names_the_metrics_and_their_labels() -> None:
    measures = Measures()
    sums = measures.of("m", "/v1/chat/completions")
    sums.add(example())
    for histogram in (sums.gap, sums.ttft):
        histogram.observe(1.0)
    load = Load("m", in_flight=0, waiting=0, failures=0, openings=0, circuits={"m#0": "closed"})
    row = Row(
        model="m", replica=0, engine="vllm", state="ready", pid=1, address=None, gpus=None, uptime_s=1.0, restarts=0,
        in_flight=0, error=None, state_s=1.0, last_line="",
    )  # fmt: skip
    metrics = Metrics(measures, Catalog([]), list)
    text, _ = metrics._render(list(measures.sums.items()), [load], [row], "")
    found = {
        re.sub(r"(_seconds)_(?:bucket|count|sum)$", r"\1", sample.name): set(sample.labels) - {"le"}
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name.startswith("router_") and not sample.name.endswith("_created")
    }
    table = README.partition("| metric | labels |")[2].partition("\n\n")[0]
    told = {
        name: set(labels.split(", "))
        for names, labels in re.findall(r"^\| (`router_[^|]*) \| ([^|]*) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert told == found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_document_names_a_metric_that_is_not_in_the_readme(document: str) -> None:
    assert set(re.findall(r"`(router_\w+)`", TEXTS[document])) <= set(re.findall(r"`(router_\w+)`", README))


def test_the_readme_names_the_headers_of_answers() -> None:
    table = README.partition("| header | |")[2].partition("\n\n")[0]
    source = Path(named.__file__).read_text()
    sent = set(re.findall(r"(?:x-router-\w+|server-timing|x-request-id)(?=: |\")", source))
    assert set(re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)) == sent


def test_the_readme_shows_a_line_of_the_requests_log() -> None:
    assert example().model == "qwen3-8b"
    line = README.partition("```json\n")[2].partition("```")[0]
    shown = set(json.loads(line)) | {"stream", "retries", "error", "start_ms"}
    assert shown == {field.name for field in msgspec.structs.fields(Record)}


def test_the_readme_says_what_an_admin_is_told() -> None:
    section = README.partition("`error.diagnosis`")[2].partition("\n- ")[0]
    told = {field.name for field in msgspec.structs.fields(Diagnosis)}
    assert told <= set(re.findall(r"`(\w+)`", section))


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


def anchors(file: Path) -> set[str]:
    """Of the headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    here = ROOT / document
    for link in re.findall(r"\]\(([^)]+)\)", TEXTS[document]):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        file = here.parent / path if path else here
        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


def test_every_document_is_linked_from_the_readme() -> None:
    """Itself, or by a folder's own page that is."""
    links = set(re.findall(r"\]\(([^)#]+)", README))
    for index in [name for name in DOCUMENTS if name.endswith("/README.md") and name in links]:
        links |= {f"{index.removesuffix('README.md')}{link}" for link in re.findall(r"\]\(([^)#]+)", TEXTS[index])}
    assert [name for name in DOCUMENTS if name not in links and name != "README.md"] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_their_options_are_those_there_are(document: str) -> None:
    context = click.Context(group)
    for line in shown_commands(TEXTS[document]):
        name = line.split()[0]
        assert name in COMMANDS, line
        command = group.get_command(context, name)
        assert isinstance(command, click.Command)
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert set(re.findall(r"(?<![\w-])-{1,2}[a-z][a-z-]*", line)) <= known, line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_defaults_that_are_told_are_the_defaults(document: str) -> None:
    """Written like `orphan_grace` (1m)."""
    reference = (ROOT / "configs/reference.yaml").read_text()
    for setting, default in re.findall(r"`([a-z_.]+)` \((\d+\w*)\)", TEXTS[document]):
        name = setting.rpartition(".")[2]
        assert re.search(rf"^ *{name}: {default}$", reference, re.MULTILINE), f"`{setting}` ({default})"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_targets_of_make_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named_here = re.findall(r"`make ([a-z-]+)", TEXTS[document]) + re.findall(
        r"^make ([a-z-]+)", TEXTS[document], re.MULTILINE
    )
    assert [name for name in named_here if name not in targets] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_the_documents_name_exist(document: str) -> None:
    for name in re.findall(r"`([a-z_]+/[\w/.]+\.(?:py|yaml))`", TEXTS[document]):
        assert (ROOT / name).exists() or (ROOT / "router" / name).exists(), name


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

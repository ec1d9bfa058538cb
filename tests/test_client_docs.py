"""The pages on clients, held against a router with real engines: what they tell people to type is typed here."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from clients.stand_in import standing_in
from e2e.real_router import RealRouter, router_up

from demo.__main__ import make
from router.config import load
from router.config.specs import Config

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs/clients"
TEXTS = {file.stem: file.read_text() for file in sorted(FOLDER.glob("*.md"))}
SHOWN = "127.0.0.1:8000"
"""The router's address in the pages."""
KEY = "docs-0123456789"
TINY = {"chat": "chat-end", "embedding": "embedding", "rerank": "rerank"}
OF_THE_ENGINE = {"engine", "model", "url", "api_key", "upstream_model", "kind", "gpus", "options", "replicas"}
"""What a model of the tests has of its own; all else is the page's."""
TIMEOUT = 60.0


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXTS[page], re.MULTILINE | re.DOTALL)


def files(page: str) -> list[str]:
    """The files for the router: not those for containers, or for LiteLLM."""
    return [text for text in blocks(page, "yaml") if re.search(r"^models:", text, re.MULTILINE)]


def checked(text: str, folder: Path) -> Config:
    """As on a machine without a GPU, with what the README has people install: llama.cpp is the wheel."""
    programs = ("vllm/bin/vllm", "infinity/bin/infinity_emb")
    for program in programs:
        (folder / program).parent.mkdir(parents=True, exist_ok=True)
        (folder / program).touch(mode=0o755)
    file = folder / "router.yaml"
    file.write_text(re.sub(r"gpus: \[[\d, ]+\]", "gpus: none", text) + f"engines_dir: {folder}\n")
    keys = {name: f"{name}-0123456789" for name in ("ROUTER_KEY", "OPERATOR_KEY", "CLOUD_KEY")}
    return load(file, list, keys)


def tiny(entry: dict[str, Any], kind: str, stand_in: int) -> dict[str, Any]:
    """The same model to clients, with an engine that runs here."""
    kept = {name: value for name, value in entry.items() if name not in OF_THE_ENGINE}
    if kind not in TINY:
        return {**kept, "kind": kind, "url": f"http://127.0.0.1:{stand_in}/v1"}
    options = {"form": "xllamacpp", "threads": 1}
    return {**kept, "kind": kind, "engine": "llamacpp", "model": f"{ROOT}/.demo/{TINY[kind]}.gguf", "options": options}


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """A model that two pages show: with the names, and what is said of it, of both."""
    aliases = {name: value for each in (old, new) for name, value in dict_of(each.get("aliases", {})).items()}
    return old | new | {"aliases": aliases}


def dict_of(aliases: dict[str, Any] | list[str]) -> dict[str, Any]:
    return aliases if isinstance(aliases, dict) else dict.fromkeys(aliases)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRouter]:
    """The models of all pages in one file. At its end nothing may be left."""
    make(ROOT / ".demo")
    with ExitStack() as stack:
        stand_in = stack.enter_context(standing_in())
        models: dict[str, dict[str, Any]] = {}
        for text in (text for page in TEXTS for text in files(page)):
            kinds = {model.name: model.kind for model in checked(text, tmp_path_factory.mktemp("check")).models}
            for name, entry in yaml.safe_load(text)["models"].items():
                models[name] = joined(models.get(name, {}), tiny(entry, kinds[name], stand_in.port))
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="docs-", dir="/tmp", ignore_cleanup_errors=True)))
        file = folder / "router.yaml"
        settings = {
            "listen": "127.0.0.1:${ROUTER_TEST_PORT}",
            "state_dir": "${ROUTER_TEST_STATE}",
            "keys": [{"name": "apps", "key": KEY}],
        }
        file.write_text(json.dumps({**settings, "models": models}))
        running = stack.enter_context(router_up(str(file), folder))
        running.wait_ready()
        yield running


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Where the blocks of a page run: with a recording to send, and a curl that tells each status on stderr."""
    (tmp_path / ".curlrc").write_text('silent\nwrite-out = "%{stderr}status %{http_code}\\n"\n')
    (tmp_path / "meeting.wav").write_bytes(b"RIFF" * 1000)
    return tmp_path


def run(argv: list[str], text: str, router: RealRouter, desk: Path) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(desk), "CURL_HOME": str(desk), "ROUTER_KEY": KEY}
    source = text.replace(SHOWN, f"127.0.0.1:{router.port}")
    return subprocess.run(
        [*argv, source], cwd=desk, env=environ, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


CALLS = [
    pytest.param(text, id=page)
    for page in TEXTS
    for text in blocks(page, "sh")
    if re.search("^curl ", text, re.MULTILINE)
]
PAIR = re.compile(r"^```sh\n(curl [^`]*)^```\n\n```json\n([^`]*)^```", re.MULTILINE)
ANSWERED = [pytest.param(call, shown, id=page) for page in TEXTS for call, shown in PAIR.findall(TEXTS[page])]


@pytest.mark.parametrize("text", CALLS)
def test_a_call_of_a_page_is_answered_with_200(router: RealRouter, desk: Path, text: str) -> None:
    done = run(["bash", "-euc"], text, router, desk)
    calls = re.findall("^curl ", text, re.MULTILINE)
    assert done.stderr.split() == ["status", "200"] * len(calls), done.stdout + done.stderr


@pytest.mark.parametrize(("call", "shown"), ANSWERED)
def test_an_answer_that_a_page_shows_has_the_fields_of_the_real_one(
    router: RealRouter, desk: Path, call: str, shown: str
) -> None:
    answer = json.loads(run(["bash", "-euc"], call, router, desk).stdout)
    assert missing(json.loads(shown), answer) == []


def missing(shown: Any, real: Any, where: str = "") -> list[str]:
    """Of the first item of each list, and the types of all values; 1.0 may come as 1."""
    if isinstance(shown, dict) and isinstance(real, dict):
        lacking = [f"{where}.{name}" for name in shown.keys() - real.keys()]
        return lacking + [
            fault
            for name in shown.keys() & real.keys()
            for fault in missing(shown[name], real[name], f"{where}.{name}")
        ]
    if isinstance(shown, list) and isinstance(real, list):
        return missing(shown[0], real[0], f"{where}[0]") if shown and real else []
    same = type(shown) is type(real) or {type(shown), type(real)} <= {int, float}
    return [] if same else [f"{where}: {real!r}"]


def test_the_python_of_openais_page_runs(router: RealRouter, desk: Path) -> None:
    done = run([sys.executable, "-c"], "\n".join(blocks("openai-python", "python")), router, desk)
    assert done.returncode == 0, done.stderr
    assert "2 vectors of 64" in done.stdout
    assert (desk / "speech.mp3").stat().st_size > 0


@pytest.mark.parametrize("page", [page for page in TEXTS if blocks(page, "python")])
def test_the_python_of_a_page_is_python(page: str) -> None:
    compile("\n".join(blocks(page, "python")), page, "exec")


@pytest.mark.parametrize("page", TEXTS)
def test_a_file_of_a_page_lacks_nothing_but_engines_and_gpus(page: str, tmp_path: Path) -> None:
    if page != "curl":
        assert files(page), "it shows no file for the router"
    for text in files(page):
        assert checked(text, tmp_path).models


def named_paths(page: str) -> set[str]:
    """Those in the text and in addresses, with `{…}` filled in. An address without a path is a base."""
    addresses = re.findall(r"http://(?:HOST|host\.docker\.internal|127\.0\.0\.1):8000([/?][^\s\"'`|)]*)", TEXTS[page])
    prose = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.MULTILINE | re.DOTALL)
    alone = re.findall(
        r"`(?:(?:GET|POST|DELETE) )?(/(?:v1|v2|openai|anthropic|re\w*|status|metrics)\b[\w/{}.?=&-]*)`", prose
    )
    filled = {re.sub(r"\{\w+\}", "qwen3-8b", path) for path in (*addresses, *alone)}
    return filled - {"/v1", "/v2", "/anthropic"}


@pytest.mark.parametrize("page", [page for page in TEXTS if named_paths(page)])
def test_the_paths_of_a_page_are_served(router: RealRouter, desk: Path, page: str) -> None:
    """By whatever method: a path that is not there is told apart by its code."""
    urls = [f"http://{SHOWN}{path}" for path in sorted(named_paths(page))]
    for url in urls:
        done = run(["bash", "-euc"], f'curl "{url}" -H "Authorization: Bearer $ROUTER_KEY"', router, desk)
        assert '"code":"not_found"' not in done.stdout, url


def test_every_page_is_linked_from_the_index() -> None:
    assert set(re.findall(r"\]\((\w[\w-]*)\.md\)", TEXTS["README"])) == TEXTS.keys() - {"README"}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", TEXTS[page]):
        path, _, anchor = link.partition("#")
        file = FOLDER / path if path else FOLDER / f"{page}.md"
        assert file.exists(), link
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, (
            link
        )


@pytest.mark.parametrize("page", TEXTS)
def test_a_page_is_short(page: str) -> None:
    assert len(TEXTS[page].splitlines()) <= 120

"""The container's files, without a Docker engine: compose by its schema, the Dockerfile by running its steps' commands.

`schemas/compose-spec.json` is the Compose Specification's, from the PyPI package docker-compose 1.29.2 (Apache-2.0).
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from router.config.convert import convert
from router.config.reading import parse
from router.config.schema import RouterFile
from router.config.values import parse_duration

REPOSITORY = Path(__file__).parent.parent
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "ARG", "ENV", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}


@dataclass
class Stage:
    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.steps if name == instruction]


def stages() -> dict[str, Stage]:
    text = (REPOSITORY / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    made: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if not line.strip():
            continue
        name, rest = line.split(maxsplit=1)
        assert name in INSTRUCTIONS, line
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            made.append(Stage(stage, base))
        else:
            made[-1].steps.append((name, rest))
    return {stage.name: stage for stage in made}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
    return loaded


def lineage(name: str) -> list[Stage]:
    """The stages an image is made of, from the base up."""
    known = stages()
    return [*lineage(known[name].base), known[name]] if name in known else []


def test_compose_follows_its_schema(compose: dict[str, Any]) -> None:
    schema = json.loads((REPOSITORY / "tests/schemas/compose-spec.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(compose)] == []
    compose = {**compose, "services": {"cpu": {"imagee": "typo"}}}
    assert not validator.is_valid(compose)


def test_each_service_is_reached_on_loopback_with_a_key(compose: dict[str, Any]) -> None:
    assert {name: service["profiles"] for name, service in compose["services"].items()} == {
        "cpu": ["cpu"],
        "gpu": ["gpu"],
    }
    for service in compose["services"].values():
        assert service["ports"] == ["127.0.0.1:8000:8000"]
        assert service["environment"]["ROUTER_KEY"].startswith("${ROUTER_KEY:?")
        assert service["init"] is True
        assert service["build"]["target"] in stages()
    (device,) = compose["services"]["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


@pytest.mark.parametrize(("profile", "file"), [("cpu", "docker.yaml"), ("gpu", "docker-gpu.yaml")])
def test_compose_waits_longer_than_the_router_needs_to_stop(compose: dict[str, Any], profile: str, file: str) -> None:
    document = parse((REPOSITORY / "configs" / file).read_text(), {"ROUTER_KEY": "from-the-environment"})
    config = convert(document, document.data, RouterFile, ())
    assert document.faults == []
    assert config.listen == "0.0.0.0:8000"
    assert [(key.name, key.key) for key in config.keys] == [("compose", "from-the-environment")]
    slowest = max([config.defaults.stop_grace, *(model.stop_grace for model in config.models.values())])
    grace = parse_duration(compose["services"][profile]["stop_grace_period"])
    assert grace >= config.drain_timeout + slowest + 10
    assert f"./configs/{file}" in compose["services"][profile]["volumes"][0]
    volumes = {volume.split(":")[1] for volume in compose["services"][profile]["volumes"] if volume[0] not in "$."}
    assert config.state_dir in volumes


def test_each_volume_lies_on_a_folder_of_the_user(compose: dict[str, Any]) -> None:
    runs = " ".join(stages()["router"].all("RUN"))
    folders = set(shlex.split(runs))
    for service in compose["services"].values():
        named = [volume.split(":") for volume in service["volumes"] if volume[0] not in "$."]
        assert {name for name, _ in named} <= set(compose["volumes"])
        assert {target for _, target in named} <= folders


@pytest.fixture
def ready_server() -> Iterator[HTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(self.server.status if self.path == "/ready" else 404)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_follows_ready(
    compose: dict[str, Any], ready_server: HTTPServer, status: int, healthy: bool
) -> None:
    ready_server.status = status  # type: ignore[attr-defined]
    for service in compose["services"].values():
        kind, program, *arguments = service["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "python")
        here = [argument.replace(":8000/", f":{ready_server.server_port}/") for argument in arguments]
        assert here != arguments
        assert (subprocess.run([sys.executable, *here], capture_output=True, check=False).returncode == 0) == healthy


@pytest.mark.parametrize("target", ["router", "vllm", "infinity"])
def test_each_image_runs_the_router_as_a_plain_user(target: str) -> None:
    steps = [step for stage in lineage(target) for step in stage.steps]
    last = dict(steps)
    assert json.loads(last["ENTRYPOINT"]) == ["router"]
    assert json.loads(last["CMD"]) == ["up", "-c", "/config/router.yaml"]
    assert last["USER"] == "10001:10001"


def test_what_is_copied_is_in_the_build_context() -> None:
    ignore = (REPOSITORY / ".dockerignore").read_text().split()
    assert ignore[0] == "*"
    kept = {pattern.removeprefix("!") for pattern in ignore if pattern.startswith("!")}
    for stage in stages().values():
        for copy in stage.all("COPY"):
            if not copy.startswith("--from="):
                assert {source.split("/")[0] for source in copy.split()[:-1]} <= kept


@pytest.mark.parametrize("engine", ["vllm", "infinity"])
def test_an_engine_is_installed_as_make_test_installs_it(engine: str) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    assert "INSTALL := $(BIN)/router install --dir $(ENGINES)\n" in makefile
    (made,) = re.findall(rf"^\t\$\(INSTALL\) ({engine}.*)$", makefile, re.MULTILINE)
    run = stages()[engine].all("RUN")[-1].replace("$DEVICE", "--cpu")
    assert run == f"router install --dir /opt/engines {made}"


class Builder:
    """Runs a Dockerfile's steps below a folder in place of /. What only root could do is written down instead."""

    def __init__(self, folder: Path) -> None:
        self.root, self.folder = folder / "root", folder
        self.shims, self.asked = folder / "shims", folder / "asked"
        self.shims.mkdir()
        (self.shims / "python").symlink_to(Path(sys.executable).resolve())
        for program in ("apt-get", "useradd", "chown"):
            shim = self.shims / program
            shim.write_text(f'#!/bin/sh\necho {program} "$@" >>{shlex.quote(str(self.asked))}\n')
            shim.chmod(0o755)

    def build(self, stage: Stage) -> dict[str, str]:
        """Leaves the stage's tree at `root` until the next one is built. Returns the environment of the image."""
        self.root.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        env = {**kept, "PATH": f"{self.shims}:/usr/bin:/bin"}
        place = self.root
        for name, rest in stage.steps:
            if name == "WORKDIR":
                place = Path(self.below(rest))
                place.mkdir(parents=True)
            elif name == "COPY":
                self.copy(rest, place)
            elif name == "RUN":
                subprocess.run(["/bin/sh", "-c", self.below(rest)], cwd=place, env=env, check=True, timeout=300)
            elif name == "ENV":
                pairs = dict(word.split("=", 1) for word in shlex.split(rest))
                env |= {key: self.below(value).replace("$PATH", env["PATH"]) for key, value in pairs.items()}
        return env

    def put_aside(self, stage: Stage) -> None:
        """The next stage starts from nothing, and copies what it names at the same paths: scripts hold their own."""
        self.root.rename(self.folder / f"stage-{stage.name}")

    def below(self, text: str) -> str:
        """Every absolute path, moved below the root."""
        return re.sub(r"(?<![\w.$~/])/(?=[a-z])", f"{self.root}/", text)

    def copy(self, arguments: str, place: Path) -> None:
        *sources, target = arguments.split()
        origin = REPOSITORY
        if sources[0].startswith("--from="):
            origin = self.folder / f"stage-{sources.pop(0).removeprefix('--from=')}"
        into = place / self.below(target)
        for source in sources:
            found, to = origin / source.lstrip("/"), into / source if target.endswith("/") else into
            to.parent.mkdir(parents=True, exist_ok=True)
            if found.is_dir():
                shutil.copytree(found, to, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(found, to)


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    """Not `tmp_path`, of which pytest keeps the last three: two environments with NumPy lie here."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_the_steps_of_the_slim_image_work_in_an_empty_folder(empty_folder: Path) -> None:
    builder, known = Builder(empty_folder), stages()
    for name in ("build", "models"):
        builder.build(known[name])
        builder.put_aside(known[name])
    env = builder.build(known["router"])

    asked = builder.asked.read_text()
    assert "apt-get install --yes --no-install-recommends libgomp1\n" in asked
    assert "useradd --uid 10001 " in asked
    assert f"chown -R 10001:10001 {builder.root}/home/router {builder.root}/var/lib/engine-router\n" in asked
    assert sorted(file.name for file in (builder.root / "opt/demo").iterdir()) == [
        "chat-end.gguf",
        "chat.gguf",
        "embedding.gguf",
        "lora.gguf",
        "rerank.gguf",
    ]

    def image(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        path = shutil.which(command[0], path=env["PATH"])
        assert path is not None
        assert path.startswith(str(builder.root))
        return subprocess.run(
            [path, *command[1:]],
            env=env | variables,
            cwd=empty_folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert image("python", "-c", "import xllamacpp").returncode == 0
    (entrypoint,) = json.loads(known["router"].all("ENTRYPOINT")[0])
    version = image(entrypoint, "--version")
    assert version.returncode == 0, version.stderr

    config = builder.root / "config/router.yaml"
    config.write_text(builder.below(config.read_text()))
    checked = image(entrypoint, "check", "-c", str(config), ROUTER_KEY="a-key-of-the-test")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    refused = image(entrypoint, "check", "-c", str(config))
    assert refused.returncode == 2
    assert "ROUTER_KEY" in refused.stdout + refused.stderr

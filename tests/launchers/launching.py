"""What the launchers' tests share: one launch with everything filled in, and where the real engines are installed."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from launchers import LAUNCHERS
from launchers.base import Command, Launch, Program, Source

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "sk-engine"
FILE = Source("file", "/models/m.gguf")
FOLDER = Source("folder", "/models/m")
HUB = Source("hub", "org/model")
MODELSCOPE = Source("modelscope", "org/model")


def launch(engine: str, options: dict[str, Any] | None = None, **changes: Any) -> Launch:
    launcher = LAUNCHERS[engine]
    given = {
        "name": "m",
        "kind": launcher.default_kind,
        "source": HUB,
        "options": msgspec.convert(options or {}, launcher.Options),
        "port": 9001,
        "key": KEY,
        "program": Program((engine,)),
    }
    return Launch(**(given | changes))


def command(engine: str, options: dict[str, Any] | None = None, **changes: Any) -> Command:
    return LAUNCHERS[engine].command(launch(engine, options, **changes))


def has(argv: tuple[str, ...], *words: str) -> bool:
    """Whether `words` stand in `argv` next to one another."""
    return any(argv[start : start + len(words)] == words for start in range(len(argv)))


def installed(engine: str, environment: str, **options: str) -> Program:
    """The real engine of one environment, which `make test` installs; xllamacpp is also an extra of our own."""
    folder = Path(os.environ.get("ROUTER_TEST_ENGINES") or REPOSITORY / ".engines") / environment
    launcher = LAUNCHERS[engine]
    program = launcher.find([folder], msgspec.convert(options, launcher.Options))
    if program is None:
        pytest.fail(f"{engine} is not installed in {folder}: run `make test`, or set ROUTER_TEST_ENGINES")
    return program


def asked(python: Path | str, script: str, given: Any) -> Any:
    """What `script`, run by an engine's own interpreter with `given` as JSON on stdin, prints as JSON on stdout."""
    done = subprocess.run(
        [str(python), "-I", "-c", script],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])

"""What the router adds to a start: `router up` until `/ready`, beside the same engine alone until `/health`."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import psutil

from bench.engines import MODEL
from bench.figures import Start
from bench.ours import ROUTER
from bench.process import Process, free_port
from bench.target import ask
from bench.tools import TOOLS, Unavailable

FILE = """\
listen: 127.0.0.1:{port}
state_dir: {folder}/state
models:
  tiny:
    engine: llamacpp
    model: {model}
    options: {{form: xllamacpp, threads: 1}}
"""
LOOK = 0.005
"""Seconds between two questions."""


def start(rounds: int) -> Start:
    """In turns; seconds of each. llama.cpp with a tiny model is the quickest engine there is, so nothing hides behind
    its own start. Raises Unavailable."""
    if not MODEL.exists():
        raise Unavailable("there is no tiny model: `make demo`")
    found = Start(date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", version=ROUTER.version(ROUTER.install()))
    for _ in range(rounds):
        with TemporaryDirectory() as folder:
            took, argv, environment = _router(Path(folder))
        found.router.append(took)
        found.bare.append(_bare(argv, environment))
        click.echo(f"ready after {found.router[-1]:.3f} s by the router, {found.bare[-1]:.3f} s alone", err=True)
    return found


def _router(folder: Path) -> tuple[float, list[str], dict[str, str]]:
    """With the engine's own command, to start it alone."""
    port, file = free_port(), folder / "router.yaml"
    file.write_text(FILE.format(port=port, folder=folder, model=MODEL))
    with Process([sys.executable, "-m", "router", "up", "-c", str(file)], None, TOOLS / "start.log") as process:
        took = _until_200(process, port, "/ready")
        children = psutil.Process(process.pid).children(recursive=True)
        engine = next(child for child in children if any("xllamacpp_server" in word for word in child.cmdline()))
        return took, engine.cmdline(), engine.environ()


def _bare(argv: list[str], environment: dict[str, str]) -> float:
    port = free_port()
    argv[argv.index("--port") + 1] = str(port)
    with Process(argv, None, TOOLS / "start.log", environment) as process:
        return _until_200(process, port, "/health")


def _until_200(process: Process, port: int, path: str) -> float:
    began = time.monotonic()
    while True:
        if ask(port, "GET", path)[0] == 200:
            return time.monotonic() - began
        if process.ended or time.monotonic() - began > 60:
            raise Unavailable("it does not start: .bench/start.log")
        time.sleep(LOOK)

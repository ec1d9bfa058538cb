"""Real engines, started once for all tests that only ask them something."""

import importlib.util
import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from real_router import RealRouter, Up, router_up

from demo.__main__ import make

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "vllm": "bin/vllm",
    "infinity": "bin/infinity_emb",
    "transformers": "bin/transformers",
    "mlx": "bin/mlx_lm.server",
    "llamacpp-server": "bin/llama-server",
    "llamacpp-python": "lib/python3*/site-packages/llama_cpp",
}


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """The engines and the tiny models. An engine that is missing is a failure: a test that is skipped shows nothing."""
    folder = Path(os.environ.get("ROUTER_TEST_ENGINES") or REPOSITORY / ".engines")
    missing = [name for name, program in PROGRAMS.items() if not any((folder / name).glob(program))]
    if importlib.util.find_spec("xllamacpp") is None:
        missing.append("xllamacpp")
    if missing:
        pytest.fail(f"not installed in {folder}: {', '.join(missing)}; run `make test`, or set ROUTER_TEST_ENGINES")
    make(REPOSITORY / ".demo")


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """pytest's own folders are too deep for the sockets in a state folder."""
    with TemporaryDirectory(prefix="e2e-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def up(short_folder: Path) -> Up:
    """`up(FILE)` is a router of one's own."""
    numbers = itertools.count()

    def run(file: str, variables: Mapping[str, str] | None = None) -> AbstractContextManager[RealRouter]:
        folder = short_folder / str(next(numbers))
        folder.mkdir()
        return router_up(file, folder, variables)

    return run


@pytest.fixture(scope="session")
def router(installed: None, up: Up) -> Iterator[RealRouter]:  # noqa: ARG001
    """Every engine from one file. Ended by SIGTERM after the last test, and then nothing may be left."""
    with up("every_engine.yaml") as running:
        running.wait_ready()
        yield running

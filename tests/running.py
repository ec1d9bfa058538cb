"""`router up` as a process of its own, on a file that a test writes; afterwards nothing of it may be left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from router.console.client import Client, NotRunning
from router.fleet.orphans import MARKER
from router.fleet.rows import Row

DEADLINE = 20.0
SERVING = Path(__file__).parent / "engines/serving.py"
T = TypeVar("T")


def until(look: Callable[[], T], deadline: float = DEADLINE) -> T:
    """The first truthy value of `look`, within the deadline."""
    end = time.monotonic() + deadline
    while not (value := look()):
        assert time.monotonic() < end, "the deadline has passed"
        time.sleep(0.01)
    return value


def fake(*flags: object, **fields: Any) -> dict[str, Any]:
    """A model whose engine is tests/engines/serving.py with these flags."""
    argv = [sys.executable, "-S", str(SERVING), "--port", "${PORT}", *map(str, flags)]
    return {"engine": "command", "stop_grace": "5s", **fields, "options": {"argv": argv, **fields.get("options", {})}}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Up:
    """One state folder, one file, and the `router up` of it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="er-", dir="/tmp"))
        self.state_dir = self.folder / "state"
        self.file = self.folder / "router.yaml"
        self.output = self.folder / "output"
        self.client = Client(self.state_dir)
        self.process: subprocess.Popen[bytes] | None = None
        self.seen: set[int] = set()
        """Every process of this router that was ever seen."""

    def write(self, models: dict[str, Any], **settings: Any) -> "Up":
        document = {"listen": "127.0.0.1:0", "state_dir": str(self.state_dir), "models": models, **settings}
        self.file.write_text(json.dumps(document))
        return self

    def start(self, **environment: str) -> "Up":
        """Without waiting for anything."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "router", "up", "-c", str(self.file)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | environment,
            )  # fmt: skip
        self.seen.add(self.process.pid)
        return self

    def started(self) -> "Up":
        """Until its engines are processes."""
        self.start()
        until(lambda: self.rows() and all(row.pid for row in self.rows()))
        self.look()
        return self

    def ready(self, models: dict[str, Any] | None = None, **settings: Any) -> "Up":
        """Until all engines are."""
        if models is not None:
            self.write(models, **settings)
        self.start()
        self.wait_for("ready")
        return self

    def wait_for(self, state: str, deadline: float = DEADLINE) -> list[Row]:
        def reached() -> list[Row]:
            assert self.process is not None
            assert self.process.poll() is None, self.text()
            rows = self.rows()
            return rows if {row.state for row in rows} == {state} else []

        rows = until(reached, deadline)
        self.look()
        return rows

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def rows(self) -> list[Row]:
        try:
            return self.client.rows()
        except NotRunning:
            return []

    def row(self) -> Row:
        (row,) = self.client.rows()
        return row

    @property
    def address(self) -> str:
        return self.client.info().address

    def text(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def states(self, model: str = "m") -> list[str]:
        """The model's states so far, as the router's log tells them."""
        lines = [line.partition(f" {model}#0 ")[2] for line in self.text().splitlines()]
        return [line.split(":")[0].split()[0] for line in lines if line]

    def marked(self) -> list[int]:
        """Every living process of this state folder, keepers included."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                environment = Path(f"/proc/{name}/environ").read_bytes()
                if f"{MARKER}={self.state_dir}#".encode() in environment and is_alive(int(name)):
                    found.append(int(name))
        return found

    def crash(self) -> None:
        """SIGKILL to every engine; until all are started again and ready."""
        before = {row.model: row.restarts for row in self.rows()}
        for row in self.rows():
            os.kill(row.pid or 0, signal.SIGKILL)
        until(lambda: all(row.restarts > before[row.model] for row in self.rows()))
        self.wait_for("ready")

    def look(self) -> None:
        self.seen.update(self.marked())

    def end(self, number: int = signal.SIGTERM) -> int:
        """Asks with a signal; the exit status."""
        assert self.process is not None
        self.look()
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def left(self) -> list[str]:
        """What should not be there any more, once the router has ended."""
        processes = {*self.marked(), *filter(is_alive, self.seen)}
        sockets = list(self.state_dir.rglob("*.sock"))
        return [f"process {pid}" for pid in sorted(processes)] + [f"socket {path}" for path in sockets]

    def cli(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Another command on the same file."""
        command, *rest = arguments
        return subprocess.run(
            [sys.executable, "-m", "router", command, *rest, "-c", str(self.file)],
            capture_output=True, text=True, timeout=DEADLINE, env=os.environ | environment, check=False,
        )  # fmt: skip

    def close(self) -> list[str]:
        """Ends all of it in any case; what was left of a router that had been asked to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(DEADLINE)
        left = self.left() if self.process is not None else []
        for pid in self.marked():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        return left


@pytest.fixture
def make() -> Iterator[Callable[[], Up]]:
    """Makes routers, and ends them; nothing may be left."""
    made: list[Up] = []

    def one() -> Up:
        made.append(Up())
        return made[-1]

    yield one
    left = [each.close() for each in made]
    assert not any(left), left


@pytest.fixture
def up(make: Callable[[], Up]) -> Up:
    return make()

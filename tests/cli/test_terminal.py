"""What `router up` shows on a terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest
from running import DEADLINE, Up, fake, until

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal with `router up` in its foreground."""

    def __init__(self, up: Up, columns: int) -> None:
        self.up = up
        self.raw = b""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "CI")}
        up.process = subprocess.Popen(
            [sys.executable, "-m", "router", "up", "-c", str(up.file)],
            stdin=slave, stdout=slave, stderr=slave, env={**environment, "TERM": "xterm-256color"},
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )  # fmt: skip
        os.close(slave)

    def read(self) -> str:
        """All that was shown so far, without escapes; what was drawn again stands below."""
        while self.master >= 0 and select.select([self.master], [], [], 0)[0]:
            try:
                self.raw += os.read(self.master, 65536)
            except OSError:
                break
        return ESCAPES.sub(b"", self.raw).replace(b"\r", b"\n").decode()

    def wait_for(self, text: str, deadline: float = DEADLINE) -> str:
        until(lambda: text in self.read(), deadline)
        return self.read()

    def close(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


@pytest.fixture
def terminal(up: Up, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    models, columns = request.param
    terminal = Terminal(up.write(models), columns)
    yield terminal
    terminal.read()
    terminal.close()


def wait(terminal: Terminal) -> int:
    """The router's exit status; somebody has to read what it still writes."""
    assert terminal.up.process is not None
    until(lambda: terminal.read() is not None and terminal.up.process and terminal.up.process.poll() is not None)
    return terminal.up.process.wait()


LOADING = {"qwen": fake("--load", 2, "--say", "reading 7 shards"), "other": fake()}


@pytest.mark.parametrize("terminal", [(LOADING, 100)], indirect=True)
def test_it_shows_the_progress_and_then_how_to_use_it(terminal: Terminal) -> None:
    shown = terminal.wait_for("Ctrl-C stops everything.")
    assert re.search(r"qwen +starting +\d\.\ds +reading 7 shards", shown)
    assert re.search(r"other +ready +\d\.\ds +127\.0\.0\.1:\d+", shown)
    assert re.search(r"qwen +ready", shown)
    assert f"engine-router serves {terminal.up.address}/v1" in shown
    assert f"curl {terminal.up.address}/v1/chat/completions" in shown
    assert " INFO " not in shown
    terminal.up.look()
    os.write(terminal.master, b"\x03")  # Ctrl-C, by way of the terminal
    assert wait(terminal) == 0
    assert "stopped" in terminal.read()
    assert "Traceback" not in terminal.read()
    assert terminal.up.left() == []


@pytest.mark.parametrize(
    "terminal", [({"qwen": fake("--load", 1, "--say", "x" * 99), "other": fake()}, 40)], indirect=True
)
def test_on_a_narrow_terminal_each_engine_keeps_its_one_line(terminal: Terminal) -> None:
    shown = terminal.wait_for("Ctrl-C stops everything.").partition("engine-router serves")[0]
    lines = [line for line in shown.splitlines() if line.strip()]
    assert all(len(line.rstrip()) <= 40 for line in lines)
    assert all(re.match(r"(qwen|other) +(starting|ready|stopped)", line) for line in lines)
    assert "xxx…" in shown


@pytest.mark.parametrize("terminal", [({"m": fake("--exit", 5)}, 100)], indirect=True)
def test_an_engine_that_fails_again_and_again_shows_why(terminal: Terminal) -> None:
    terminal.wait_for("WARNING router: m#0 failed: exited with status 5: exiting with 5")
    until(lambda: terminal.read().count("WARNING router: m#0 failed: exited with status 5") >= 2)
    assert re.search(r"m +failed +\d\.\ds +exited with status 5", terminal.read())
    os.write(terminal.master, b"\x03")
    assert wait(terminal) == 0


@pytest.mark.parametrize(
    ("terminal", "shown"),
    [
        (({"m": fake("--daemon", stop_grace="300ms")}, 100), "Ctrl-C stops everything."),
        (({"m": fake("--daemon", "--load", 60, stop_grace="300ms")}, 100), "starting"),
    ],
    indirect=["terminal"],
)
def test_a_terminal_that_is_closed_ends_the_router_and_leaves_nothing(terminal: Terminal, shown: str) -> None:
    terminal.wait_for(shown)
    terminal.up.look()
    terminal.close()
    assert terminal.up.process is not None
    assert terminal.up.process.wait(DEADLINE) == 0
    assert terminal.up.left() == []


def test_without_a_terminal_it_logs_lines(up: Up) -> None:
    up.ready({"m": fake()})
    until(lambda: f"INFO router: ready: {up.address}" in up.text())
    assert "\x1b" not in up.text()
    lines = up.text().splitlines()
    assert [line.split("router: ")[1] for line in lines] == ["m#0 starting", "m#0 ready", f"ready: {up.address}"]
    assert up.process is not None
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(DEADLINE) == 0

"""However the router is asked to end, and whatever its engines do: no process, socket or port is left."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from running import DEADLINE, Up, fake, until

ASKED = [signal.SIGINT, signal.SIGTERM, "down"]


def ask(up: Up, how: signal.Signals | str) -> int:
    """The router's exit status."""
    up.look()
    if isinstance(how, signal.Signals):
        return up.end(how)
    done = up.cli("down")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"(pid {up.pid}) has ended" in done.stdout
    assert up.process is not None
    return up.process.wait(1)


class Stream(threading.Thread):
    """A client that reads a stream to its end."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.first = threading.Event()
        self.text = b""
        url = urlsplit(address)
        self.connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=DEADLINE)

    def run(self) -> None:
        body = json.dumps({"model": "m", "stream": True, "messages": []})
        self.connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        with self.connection.getresponse() as answer:
            while line := answer.readline():
                self.text += line
                self.first.set()
        self.connection.close()


@pytest.mark.parametrize("how", ASKED)
@pytest.mark.parametrize(
    ("state", "flags"),
    [
        ("starting", ["--load", 60]),
        ("starting", ["--load", 60, "--hang", "--child"]),
        ("starting", ["--mute", "--daemon"]),
        ("ready", ["--daemon", "--child"]),
    ],
    ids=["loading", "hanging", "mute", "ready"],
)
def test_nothing_is_left(up: Up, how: signal.Signals | str, state: str, flags: list[Any]) -> None:
    up.write({"m": fake(*flags, stop_grace="300ms")}).started()
    up.wait_for(state)
    port = urlsplit(up.address).port
    began = time.monotonic()
    assert ask(up, how) == 0
    assert time.monotonic() - began < 3
    assert up.left() == []
    with socket.socket() as again:
        again.bind(("127.0.0.1", port or 0))


@pytest.mark.parametrize("how", ASKED)
def test_an_engine_that_ignores_sigterm_is_killed_after_its_grace(up: Up, how: signal.Signals | str) -> None:
    up.ready({"m": fake("--deaf", stop_grace="700ms")})
    began = time.monotonic()
    assert ask(up, how) == 0
    assert 0.7 < time.monotonic() - began < 3
    assert up.left() == []


@pytest.mark.parametrize("how", ASKED)
def test_an_engine_in_its_backoff_is_not_waited_for(up: Up, how: signal.Signals | str) -> None:
    up.write({"m": fake("--exit", 3)}).start()
    up.wait_for("failed")
    began = time.monotonic()
    assert ask(up, how) == 0
    assert time.monotonic() - began < 2
    assert up.left() == []


@pytest.mark.parametrize("when", range(8))
def test_a_signal_at_any_time_of_the_start_leaves_nothing_and_is_no_failure(up: Up, when: int) -> None:
    up.write({f"m{number}": fake("--load", 1, "--daemon", stop_grace="100ms") for number in range(2)}).start()
    time.sleep(0.1 + 0.12 * when)  # not to wait for something: to hit every phase
    begun = up.state_dir.exists()  # before that it is Python's start that ends
    status = up.end(signal.SIGINT)
    assert status == 0 or not begun
    assert up.left() == []


def test_a_second_signal_waits_for_nothing(up: Up) -> None:
    up.ready({"m": fake("--deaf", "--child", stop_grace="10m"), "n": fake("--deaf", stop_grace="10m")})
    stream = Stream(up.address)
    stream.start()
    assert stream.first.wait(DEADLINE)
    assert up.process is not None
    up.process.send_signal(signal.SIGINT)
    until(lambda: not answers(up))
    up.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert up.process.wait(DEADLINE) == 0
    assert time.monotonic() - began < 3
    assert up.left() == []
    stream.join(DEADLINE)


def answers(up: Up) -> bool:
    url = urlsplit(up.client.info().address)
    try:
        socket.create_connection((url.hostname or "", url.port or 0), 1).close()
    except OSError:
        return False
    return True


def test_down_now_waits_for_nothing(up: Up) -> None:
    up.ready({"m": fake("--deaf", stop_grace="10m")})
    assert up.cli("down", "--now").returncode == 0
    assert up.left() == []


def test_down_may_be_asked_twice_and_still_waits_for_the_engines(up: Up) -> None:
    up.ready({"m": fake("--deaf", stop_grace="2s")})
    began = time.monotonic()
    up.client.stop()
    assert up.cli("down").returncode == 0
    assert time.monotonic() - began > 2
    assert up.left() == []


@pytest.mark.parametrize("how", [signal.SIGINT, "down"])
def test_a_stream_gets_the_drain_timeout_and_then_an_error_event(up: Up, how: signal.Signals | str) -> None:
    up.ready({"m": fake("--deaf", stop_grace="300ms")}, drain_timeout="1500ms")
    stream = Stream(up.address)
    stream.start()
    assert stream.first.wait(DEADLINE)
    before = stream.text.count(b"data: ")
    began = time.monotonic()
    assert ask(up, how) == 0
    assert 1.5 < time.monotonic() - began < 5
    stream.join(DEADLINE)
    *events, last = stream.text.strip().split(b"\n\n")
    assert len(events) - before > 15  # every 50 ms: it went on
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "shutting_down"
    assert up.left() == []


def test_many_engines_in_every_state_end_together(up: Up) -> None:
    models = {
        "loading": fake("--load", 60, stop_grace="1s"),
        "deaf": fake("--deaf", "--child", "--daemon", stop_grace="1s"),
        "ready": fake(replicas=2, stop_grace="1s"),
        "failing": fake("--exit", 1, stop_grace="1s"),
        "mute": fake("--mute", "--deaf", stop_grace="1s"),
    }
    up.write(models).start()
    states = {"loading": "starting", "deaf": "ready", "ready": "ready", "failing": "failed", "mute": "starting"}
    until(lambda: {row.model: row.state for row in up.rows()} == states)
    began = time.monotonic()
    assert up.end(signal.SIGINT) == 0
    assert time.monotonic() - began < 4  # not one grace after the other
    assert up.left() == []


def test_an_engine_that_cannot_be_started_at_the_end_of_the_router_is_not_started(up: Up) -> None:
    """Stop while a start is in progress: whichever comes first, nothing is left."""
    up.write({f"m{number}": fake(stop_grace="100ms") for number in range(4)}).start()
    until(lambda: any(row.state == "starting" for row in up.rows()))
    assert up.end(signal.SIGTERM) == 0
    assert up.left() == []


def test_a_stuck_keeper_does_not_hold_up_a_hurried_end(up: Up) -> None:
    up.ready({"m": fake(stop_grace="10m")})
    (keeper,) = [pid for pid in up.marked() if pid not in {row.pid for row in up.rows()}]
    os.kill(keeper, signal.SIGSTOP)
    assert up.process is not None
    up.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(DEADLINE) == 0
    assert up.left() == []

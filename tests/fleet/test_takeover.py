"""`router up --takeover`: another process takes the place of the router that runs, and nobody notices."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from asking import Client, Steady, Stream, ask, asks
from running import DEADLINE, Up, fake, is_alive, until

from router.sockets import private
from router.takeover import _called

TAKEN = "another router has taken over"


class Line:
    """Routers of one state folder, each in the place of the one before."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.routers: list[subprocess.Popen[bytes]] = []

    def ready(self, models: dict[str, Any], **settings: Any) -> "Line":
        self.up.ready(models, **settings)
        assert self.up.process is not None
        self.routers.append(self.up.process)
        return self

    def start(self, *flags: str) -> "subprocess.Popen[bytes]":
        """Another one, without waiting for anything."""
        with self.up.output.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "router", "up", *flags, "-c", str(self.up.file)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.routers.append(process)
        self.up.seen.add(process.pid)
        return process

    def take_over(self) -> "subprocess.Popen[bytes]":
        """The old one, once the new one has its place and all engines are ready."""
        assert self.up.process is not None
        old, self.up.process = self.up.process, self.start("--takeover")
        until(lambda: self.up.rows() and self.up.client.info().pid == self.up.pid)
        self.up.wait_for("ready")
        return old

    def close(self) -> None:
        for router in self.routers:
            if router.poll() is None:
                router.send_signal(signal.SIGCONT)
                if router is not self.up.process:
                    router.kill()
                    router.wait()


@pytest.fixture
def line(up: Up) -> Iterator[Line]:
    line = Line(up)
    yield line
    line.close()


def engines(up: Up) -> dict[str, int]:
    return {f"{row.model}#{row.replica}": row.pid or 0 for row in up.rows()}


def holder(up: Up) -> str:
    return (up.state_dir / "router.lock").read_text()


class Commands(threading.Thread):
    """Looks until the block ends whether somebody listens to commands, and no more: what was just accepted by a router
    that leaves may be closed."""

    def __init__(self, up: Up) -> None:
        super().__init__(daemon=True)
        self._up, self._enough = up, threading.Event()
        self.faults: list[str] = []

    def __enter__(self) -> "Commands":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.join(DEADLINE)

    def run(self) -> None:
        while not self._enough.wait(0.002):
            with socket.socket(socket.AF_UNIX) as knock:
                try:
                    knock.connect(str(self._up.state_dir / "router.sock"))
                except OSError as error:
                    self.faults.append(repr(error))


def test_the_new_router_has_the_engines_the_address_and_the_lock(line: Line) -> None:
    up = line.ready({"m": fake("--short", replicas=2), "n": fake("--short")}).up
    before, address = engines(up), up.address
    old = line.take_over()
    assert old.wait(DEADLINE) == 0
    assert (engines(up), up.address) == (before, address)
    assert {row.restarts for row in up.rows()} == {0}
    assert holder(up) == f"{up.pid} {address}\n"
    assert (asks(address), asks(address, "n")) == (200, 200)
    assert up.text().count(TAKEN) == 1
    assert "ended, and the engines go on" in up.text()
    assert up.end() == 0
    assert up.left() == []


def test_no_request_and_no_connection_is_lost_by_one_takeover_after_the_other(line: Line) -> None:
    up = line.ready({"m": fake("--short", replicas=2), "n": fake("--short")}).up
    before = engines(up)
    with Steady(up.address, clients=6) as load, Steady(up.address, "n", clients=2) as other, Commands(up) as commands:
        for _ in range(3):
            old = line.take_over()
            load.more()
            other.more()
            assert old.wait(DEADLINE) == 0
    assert not commands.faults, commands.faults
    assert not load.faults, load.faults
    assert not other.faults, other.faults
    assert engines(up) == before
    assert len({router.pid for router in line.routers}) == 4


def test_a_stream_comes_to_its_end_in_the_old_process_which_then_ends_and_leaves_the_engines(line: Line) -> None:
    end = line.up.folder / "end"
    up = line.ready({"m": fake("--short", "--end", end)}, drain_timeout=0).up
    before = engines(up)
    stream = Stream(up.address)
    old = line.take_over()
    stream.more(20)
    assert old.poll() is None
    assert ask(up.address) == (200, b"%d" % before["m#0"])
    end.touch()
    assert stream.ended()
    assert old.wait(DEADLINE) == 0
    assert engines(up) == before
    assert asks(up.address) == 200


def test_requests_that_wait_for_a_replica_are_answered_by_the_old_process(line: Line) -> None:
    end = line.up.folder / "end"
    up = line.ready({"m": fake("--short", "--end", end, options={"concurrency": 1})}).up
    stream = Stream(up.address)
    found: list[tuple[int, bytes]] = []
    waiting = [threading.Thread(target=lambda: found.append(ask(up.address))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    until(lambda: b'router_requests_waiting{model="m"} 3.0' in metrics(up))
    old = line.take_over()
    assert found == []
    end.touch()
    assert stream.ended()
    for thread in waiting:
        thread.join(DEADLINE)
    assert found == [(200, b"%d" % (up.row().pid or 0))] * 3
    assert old.wait(DEADLINE) == 0


def metrics(up: Up) -> bytes:
    client = Client(up.address)
    client.connection.request("GET", "/metrics")
    with client.connection.getresponse() as answer:
        text: bytes = answer.read()
    client.connection.close()
    return text


def test_a_second_signal_to_the_old_process_ends_its_streams_and_no_engine(line: Line) -> None:
    up = line.ready({"m": fake("--short")}).up
    before = engines(up)
    stream = Stream(up.address)
    old = line.take_over()
    old.send_signal(signal.SIGTERM)
    assert old.wait(DEADLINE) == 0
    stream.join(DEADLINE)
    assert b"shutting_down" in stream.text
    assert engines(up) == before
    assert asks(up.address) == 200


def test_without_a_running_router_it_is_a_start_like_any_other(line: Line) -> None:
    up = line.up.write({"m": fake("--short")})
    up.process = line.start("--takeover")
    up.wait_for("ready")
    assert asks(up.address) == 200
    assert up.end() == 0
    assert up.left() == []


def test_after_a_router_that_was_killed_it_adopts_as_any_other(line: Line) -> None:
    up = line.ready({"m": fake("--short")}).up
    before = engines(up)
    line.routers[0].kill()
    line.routers[0].wait()
    up.process = line.start("--takeover")
    up.wait_for("ready")
    assert engines(up) == before


def test_the_new_one_keeps_no_descriptors_of_the_old_one(line: Line) -> None:
    up = line.ready({"m": fake("--short"), "n": fake("--short")}).up

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{up.pid}/fd"))

    line.take_over().wait(DEADLINE)
    assert asks(up.address) == 200
    first = descriptors()
    for _ in range(2):
        line.take_over().wait(DEADLINE)
    assert asks(up.address) == 200
    until(lambda: descriptors() <= first + 1)


def test_when_the_new_one_is_killed_another_one_has_the_address_and_the_engines_while_the_old_one_streams(
    line: Line,
) -> None:
    end = line.up.folder / "end"
    port = free_port()
    up = line.ready({"m": fake("--short", "--end", end)}, listen=f"127.0.0.1:{port}").up
    before = engines(up)
    stream = Stream(up.address)
    old = line.take_over()
    line.routers[-1].kill()
    line.routers[-1].wait()
    up.process = line.start()
    until(lambda: up.rows() and up.client.info().pid == up.pid)
    up.wait_for("ready")
    assert engines(up) == before
    assert (asks(up.address), old.poll()) == (200, None)
    end.touch()
    assert stream.ended()
    assert old.wait(DEADLINE) == 0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def test_engines_that_the_file_wants_otherwise_are_replaced_and_the_others_kept(line: Line) -> None:
    up = line.ready({"same": fake("--short"), "other": fake("--short"), "goes": fake()}).up
    before = engines(up)
    up.write({"same": fake("--short", queue_size=7), "other": fake("--short", env={"A": "1"}), "comes": fake()})
    with Steady(up.address, "same") as load:
        line.take_over()
        assert asks(up.address, "other") == 200
    assert not load.faults, load.faults
    after = engines(up)
    assert set(after) == {"same#0", "other#0", "comes#0"}
    assert after["same#0"] == before["same#0"]
    assert after["other#0"] != before["other#0"]
    until(lambda: not is_alive(before["other#0"]) and not is_alive(before["goes#0"]))


def test_another_address_is_listened_at_instead(line: Line) -> None:
    up = line.ready({"m": fake("--short")}).up
    before, first = engines(up), urlsplit(up.address).port
    up.write({"m": fake("--short")}, listen=f"127.0.0.1:{free_port()}")
    old = line.take_over()
    assert urlsplit(up.address).port != first
    assert asks(up.address) == 200
    assert old.wait(DEADLINE) == 0
    assert asks(f"http://127.0.0.1:{first}") == 0
    assert engines(up) == before


def test_an_address_that_is_taken_leaves_everything_with_the_old_one(line: Line) -> None:
    up = line.ready({"m": fake("--short")}).up
    before, address = engines(up), up.address
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        up.write({"m": fake("--short")}, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with Steady(address) as load:
            new = line.start("--takeover")
            assert new.wait(DEADLINE) == 1
            load.more()
    assert not load.faults, load.faults
    assert "Address already in use" in up.text()
    assert (up.client.info().pid, up.address, engines(up)) == (line.routers[0].pid, address, before)
    assert holder(up) == f"{line.routers[0].pid} {address}\n"
    assert TAKEN not in up.text()


def test_a_file_with_faults_takes_nothing_over(line: Line) -> None:
    up = line.ready({"m": fake("--short")}).up
    before = engines(up)
    up.write({"m": {"engine": "nothing"}})
    assert line.start("--takeover").wait(DEADLINE) == 2
    assert (up.client.info().pid, engines(up)) == (line.routers[0].pid, before)
    assert asks(up.address) == 200


def test_a_router_that_is_halted_cannot_be_taken_over_and_goes_on_as_it_was(line: Line) -> None:
    up = line.ready({"m": fake("--short")}, orphan_grace="2m").up
    before, old = engines(up), line.routers[0]
    old.send_signal(signal.SIGSTOP)
    new = line.start("--takeover")
    assert new.wait(3 * DEADLINE) == 1
    old.send_signal(signal.SIGCONT)
    assert f"cannot take over from the router that runs (pid {old.pid} at {up.address})" in up.text()
    assert "does not answer" in up.text()
    assert (up.client.info().pid, engines(up)) == (old.pid, before)
    assert asks(up.address) == 200
    assert not (up.state_dir / "takeover.sock").exists()


def test_another_up_without_takeover_is_refused_with_who_is_there_and_what_to_do(line: Line) -> None:
    up = line.ready({"m": fake("--short")}).up
    line.take_over()
    assert line.start().wait(DEADLINE) == 1
    assert f"a router runs already with {up.state_dir} (pid {up.pid} at {up.address})" in up.text()
    assert "`router up --takeover`" in up.text()
    assert asks(up.address) == 200


def test_detached_it_leaves_the_new_one_in_the_background(line: Line) -> None:
    up = line.ready({"m": fake("--short")}).up
    before, old = engines(up), line.routers[0]
    done = up.cli("up", "--takeover", "--detach")
    assert (done.returncode, done.stderr) == (0, "")
    new = up.client.info().pid
    up.seen.add(new)
    assert f"(pid {new}, log {up.state_dir / 'router.log'})" in done.stdout
    assert old.wait(DEADLINE) == 0
    assert engines(up) == before
    assert asks(up.address) == 200
    assert up.cli("down").returncode == 0
    assert up.left() == []


def test_who_is_stopped_while_it_waits_takes_nothing_over(tmp_path: Path) -> None:
    with private(tmp_path / "takeover.sock") as listener:
        asked: list[None] = []

        def stopped() -> bool:
            asked.append(None)
            return len(asked) > 2

        with pytest.raises(OSError, match="stopped before"):
            _called(listener, stopped)


def test_engines_without_an_orphan_grace_are_kept_too(line: Line) -> None:
    up = line.ready({"m": fake("--short")}, orphan_grace=0).up
    before = engines(up)
    assert line.take_over().wait(DEADLINE) == 0
    assert engines(up) == before
    up.process.kill()  # type: ignore[union-attr]  # it runs
    until(lambda: not up.marked())
    up.ready()

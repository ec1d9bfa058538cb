"""What dies is ended whole and started again; what cannot be started says why."""

import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from running import Up, fake, is_alive, until

from router.fleet.states import TRANSITIONS, State


def keeper_of(up: Up) -> int:
    """The keeper of the only engine: its parent."""
    return int(Path(f"/proc/{up.row().pid}/stat").read_text().rpartition(")")[2].split()[1])


def check_transitions(up: Up, model: str = "m") -> None:
    states = ["stopped", *up.states(model)]
    wrong = [pair for pair in pairwise(states) if tuple(map(State, pair)) not in TRANSITIONS]
    assert not wrong, states


def test_a_crash_is_shown_with_exit_and_last_line_and_the_engine_comes_back(up: Up) -> None:
    up.ready({"m": fake("--exit", 7, "--after", 1, "--once", up.folder / "crashed")})
    (row,) = up.wait_for("failed")
    assert (row.pid, row.address, row.uptime_s, row.restarts) == (None, None, None, 0)
    assert row.error == "exited with status 7: exiting with 7"
    (row,) = up.wait_for("starting")
    assert (row.error, row.restarts) == ("exited with status 7: exiting with 7", 1)
    (row,) = up.wait_for("ready")
    assert (row.error, row.restarts) == (None, 1)
    assert up.end() == 0
    assert up.states() == [
        "starting", "ready", "failed", "starting", "ready", "draining", "stopping", "stopped",
    ]  # fmt: skip


def test_failures_in_a_row_wait_longer_each_time(up: Up) -> None:
    up.write({"m": fake("--exit", 1)}).start()
    begins = []
    for restarts in range(4):
        until(lambda number=restarts: up.rows() and up.row().restarts >= number)
        begins.append(time.monotonic())
    first, second, third = (later - earlier for earlier, later in pairwise(begins))
    assert 0.5 <= first <= 1.5
    assert 1 <= second <= 2.5
    assert 2 <= third <= 4.5
    assert up.end() == 0
    check_transitions(up)


def test_an_engine_killed_by_sigkill_leaves_nothing_and_a_new_one_serves(up: Up) -> None:
    up.ready({"m": fake("--child", "--daemon", stop_grace="1s")})
    keeper, pid = keeper_of(up), up.row().pid
    old = set(up.marked())
    assert pid
    assert len(old) == 4  # keeper, engine, child, daemon
    os.kill(pid, signal.SIGKILL)
    rows = until(lambda: [row for row in up.rows() if row.state == "failed"])
    assert "was killed by signal 9" in (rows[0].error or "")
    assert not any(map(is_alive, old))
    assert not Path(f"/proc/{keeper}").exists()  # no zombie
    up.wait_for("ready")
    assert up.states() == ["starting", "ready", "stopping", "failed", "starting", "ready"]


def test_a_crashed_engine_is_offered_no_request_while_its_children_are_being_ended(up: Up) -> None:
    up.ready({"m": fake("--child", stop_grace="3s")})
    pid = up.row().pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    up.wait_for("stopping")
    assert time.monotonic() - began < 2
    up.wait_for("failed")
    assert time.monotonic() - began > 2


def test_a_keeper_killed_by_sigkill_takes_its_engine_along_and_both_come_back(up: Up) -> None:
    up.ready({"m": fake("--child", "--daemon", "--deaf", stop_grace="10m")})
    old = set(up.marked())
    os.kill(keeper_of(up), signal.SIGKILL)
    rows = until(lambda: [row for row in up.rows() if row.state == "failed"])
    assert rows[0].error == "ended: its keeper was killed"
    assert not any(map(is_alive, old))
    up.wait_for("ready")
    check_transitions(up)
    assert up.process is not None
    up.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert up.end() == 0


def test_a_keeper_that_is_told_to_end_says_so(up: Up) -> None:
    up.ready({"m": fake()})
    os.kill(keeper_of(up), signal.SIGTERM)
    rows = until(lambda: [row for row in up.rows() if row.state == "failed"])
    assert "somebody told its keeper to end it" in (rows[0].error or "")


def test_engines_outlive_a_killed_router_only_for_the_orphan_grace(up: Up) -> None:
    up.ready({"m": fake("--child", "--daemon", stop_grace="500ms")}, orphan_grace="100ms")
    up.look()
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    assert up.marked()
    until(lambda: not any(map(is_alive, up.seen)), 10)
    assert list((up.state_dir / "run").glob("*.sock")) == []
    (up.state_dir / "router.sock").unlink()  # of no harm to the next router, see below


def test_what_a_killed_router_left_halted_is_ended_by_the_next_one(up: Up) -> None:
    up.ready({"m": fake("--child", "--daemon", stop_grace="300ms"), "n": fake(stop_grace="300ms")})
    up.look()
    old = set(up.seen)
    for pid in set(up.marked()):
        os.kill(pid, signal.SIGSTOP)
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    up.start()
    up.wait_for("ready", 60)
    assert not any(map(is_alive, old))
    assert {row.restarts for row in up.rows()} == {0}


def test_engines_whose_keepers_were_killed_with_the_router_are_ended_by_the_next_one(up: Up) -> None:
    up.ready({"m": fake("--child", "--daemon", "--deaf", stop_grace="300ms")})
    old = set(up.marked())
    keeper = keeper_of(up)
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    os.kill(keeper, signal.SIGKILL)
    assert any(map(is_alive, old))
    up.start()
    up.wait_for("ready")
    assert not any(map(is_alive, old))


def test_a_halted_router_loses_its_engines_after_the_lease_and_starts_them_again(up: Up) -> None:
    up.ready({"m": fake()}, orphan_grace="0s")
    pid = up.row().pid or 0
    os.kill(up.pid, signal.SIGSTOP)
    until(lambda: not is_alive(pid))
    os.kill(up.pid, signal.SIGCONT)
    until(lambda: "`orphan_grace`, and its keeper ended it" in up.text())
    up.wait_for("ready")


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([sys.executable, "/no/such/file"], "exited with status 2: "),
        (["/bin/sh", "-c", "echo cannot do this >&2; exit 9"], "exited with status 9: cannot do this"),
        (["/bin/sh", "-c", "kill -SEGV $$$$"], "was killed by signal 11"),
        (["/bin/true"], "exited with status 0"),
    ],
)
def test_an_engine_that_exits_at_once_fails_with_the_reason(up: Up, argv: list[str], reason: str) -> None:
    up.write({"m": fake(options={"argv": argv})}).start()
    rows = until(lambda: [row for row in up.rows() if row.state == "failed"])
    assert (rows[0].error or "").startswith(reason)
    assert up.end() == 0
    check_transitions(up)


def test_a_program_that_vanished_after_the_check_is_named(up: Up) -> None:
    program = up.folder / "engine"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    up.write({"m": fake(options={"argv": [str(program)]})}).start()
    until(lambda: up.rows() and up.row().error)
    program.unlink()
    up_error = until(lambda: next((e for row in up.rows() if "cannot start" in (e := row.error or "")), None))
    assert up_error == f"cannot start {program}: No such file or directory"


def test_an_engine_that_is_never_ready_fails_after_its_start_timeout(up: Up) -> None:
    up.write(
        {"m": fake("--mute", "--load", 60, "--say", "still thinking", start_timeout="1500ms", stop_grace="300ms")}
    ).start()
    rows = until(lambda: [row for row in up.rows() if row.state == "failed"])
    assert rows[0].error == "not ready within 1.5 s (`start_timeout`): still thinking"
    assert [pid for pid in up.marked() if pid != up.pid] == []


def test_an_engine_that_takes_probes_and_answers_none_holds_up_neither_its_timeout_nor_the_end(up: Up) -> None:
    up.write({"m": fake("--hang", "--load", 60, start_timeout="1500ms", stop_grace="300ms")}).start()
    began = time.monotonic()
    until(lambda: [row for row in up.rows() if row.state == "failed"])
    assert time.monotonic() - began < 4


def test_a_port_that_another_process_answers_on_is_not_taken_for_the_engine(up: Up) -> None:
    """The engine never listens; a thief does, on the engine's port."""
    up.write({"m": fake("--mute", stop_grace="300ms")}).started()
    port = int((up.row().address or "").rpartition(":")[2])
    thief = subprocess.Popen([*serving(), "--port", str(port)])
    try:
        rows = until(lambda: [row for row in up.rows() if row.state == "failed"])
        assert rows[0].error == f"port {port} answers, but it is not the engine that listens there"
        up.wait_for("starting")
        assert up.row().address != f"127.0.0.1:{port}"
    finally:
        thief.kill()
        thief.wait()
    assert up.states()[:3] == ["starting", "stopping", "failed"]


def serving() -> list[str]:
    return [str(word) for word in fake()["options"]["argv"][:3]]


def test_an_engine_on_another_port_than_its_own_is_not_ready(up: Up) -> None:
    up.write({"m": fake("--port", 1 << 15, start_timeout="1s", stop_grace="300ms")}).start()
    rows = until(lambda: [row for row in up.rows() if row.state == "failed"])
    assert "not ready within 1 s" in (rows[0].error or "")


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_the_environments_proxies_are_not_for_engines(up: Up, variable: str) -> None:
    up.write({"m": fake()}).start(**{variable: "http://127.0.0.1:9"})
    up.wait_for("ready")
    assert up.cli("ps", **{variable: "http://127.0.0.1:9"}).returncode == 0


def test_many_crashes_leak_no_descriptor_and_no_zombie(up: Up) -> None:
    up.ready({f"m{number}": fake() for number in range(5)})

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{up.pid}/fd"))

    up.crash()
    before = descriptors()
    for _ in range(2):
        up.crash()
    until(lambda: descriptors() <= before)
    assert len(psutil.Process(up.pid).children()) == 5


def test_a_log_with_carriage_returns_shows_its_last_state(up: Up) -> None:
    up.write({"m": fake("--progress", "--load", 5)}).start()
    until(lambda: up.rows() and up.row().last_line.startswith("loading "))
    first = up.row().last_line
    until(lambda: up.row().last_line != first)


def test_a_flood_of_output_is_rotated_and_does_not_hold_up_the_engine(up: Up) -> None:
    up.ready({"m": fake("--flood", 20_000)}, log={"max_size": "100KiB", "keep": 2})
    log = up.state_dir / "logs/m.0.log"
    until(lambda: f"{19_999:099d}" in log.read_text())
    sizes = [path.stat().st_size for path in sorted(log.parent.iterdir())]
    assert len(sizes) == 3
    assert all(size <= 100 * 1024 for size in sizes)


def test_a_state_folder_deleted_meanwhile_is_made_again(up: Up) -> None:
    up.ready({"m": fake()})
    pid = up.row().pid or 0
    shutil.rmtree(up.state_dir)
    os.kill(pid, signal.SIGKILL)
    until(lambda: up.states()[-3:] == ["failed", "starting", "ready"])
    assert up.end() == 0


def test_the_files_are_for_this_user_alone(up: Up) -> None:
    old = os.umask(0)
    try:
        up.ready({"m": fake()})
    finally:
        os.umask(old)
    modes: dict[str, Any] = {
        str(path.relative_to(up.folder)): oct(path.stat().st_mode & 0o777) for path in up.state_dir.rglob("*")
    }
    assert oct(up.state_dir.stat().st_mode & 0o777) == "0o700"
    assert {mode for name, mode in modes.items() if name in ("state/run", "state/logs")} == {"0o700"}
    assert {mode for name, mode in modes.items() if name not in ("state/run", "state/logs")} == {"0o600"}, modes

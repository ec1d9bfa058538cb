"""The keeper, with real processes, sockets and files."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from router.fleet import keeper_tree

ROOT = Path(__file__).parents[1]
KEEPER = ROOT / "router/fleet/keeper.py"
MISBEHAVE = Path(__file__).parent / "engines/misbehave.py"
DEADLINE = 10.0
T = TypeVar("T")
SECRET = "sk-secret-of-the-engine"
STAMP = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


def until(look: Callable[[], T], deadline: float = DEADLINE) -> T:
    """The first truthy value of `look`, within the deadline."""
    end = time.monotonic() + deadline
    while not (value := look()):
        assert time.monotonic() < end, "the deadline has passed"
        time.sleep(0.005)
    return value


def alive(pid: int) -> bool:
    try:
        return keeper_tree.read_stat(pid)[2]
    except OSError:
        return False


class Wire:
    """A client of the keeper's socket."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(str(path))
        self.file = self.sock.makefile("rb")

    def send(self, **request: Any) -> None:
        self.sock.sendall(json.dumps(request).encode() + b"\n")

    def read(self) -> dict[str, Any]:
        message = json.loads(self.file.readline())
        assert isinstance(message, dict)
        return message

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        self.send(op=op, **request)
        return self.read()

    def at_end(self) -> bool:
        """Whether the keeper has closed, having said no more."""
        with suppress(ConnectionResetError):
            return self.file.read() == b""
        return True

    def close(self) -> None:
        self.file.close()
        self.sock.close()


class Run:
    """One keeper and what it answered."""

    def __init__(self, folder: Path, marker: str) -> None:
        self.socket, self.log, self.marker = folder / "x.sock", folder / "x.log", marker
        self.env = dict(os.environ, KEEPER_TEST=marker, API_KEY=SECRET, PYTHONPATH=str(ROOT))
        self.wires: list[Wire] = []

    def spec(self, argv: list[str], **changes: Any) -> dict[str, Any]:
        return {
            "argv": argv,
            "env": self.env,
            "cwd": str(self.socket.parent),
            "socket": str(self.socket),
            "log": str(self.log),
            "log_max_bytes": 1_000_000,
            "log_keep": 2,
            "lease": 60,
            "orphan_grace": 60,
            "note": {"model": "m", "key": SECRET},
            "grace": 5,
            "kill_wait": 5,
        } | changes

    def start(self, argv: list[str], script: Path = KEEPER, **changes: Any) -> "Run":
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"KEEPER_TEST": self.marker},
            start_new_session=True,
        )
        stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
        assert stdin
        assert stdout
        assert stderr
        stdin.write(json.dumps(self.spec(argv, **changes)).encode())
        stdin.close()
        self.reply: dict[str, Any] = json.loads(stdout.readline())
        assert stdout.read() == b""  # one line, and the keeper has let go
        assert stderr.read() == b""
        stdout.close()
        stderr.close()
        return self

    def engine(self, behaviour: str, *arguments: str, **changes: Any) -> "Run":
        """Starts a fake engine of tests/engines and waits until it is ready."""
        self.start([sys.executable, str(MISBEHAVE), behaviour, *arguments], **changes)
        until(lambda: f"{behaviour} ready" in self.text())
        return self

    def python(self, code: str, **changes: Any) -> "Run":
        return self.start([sys.executable, "-c", code], **changes)

    def wire(self) -> Wire:
        self.wires.append(Wire(self.socket))
        return self.wires[-1]

    def text(self) -> str:
        """What is logged, without the times."""
        return re.sub(STAMP, "", self.log.read_text(), flags=re.MULTILINE) if self.log.exists() else ""

    def status(self) -> dict[str, Any]:
        wire = self.wire()
        answer = wire.ask("status")
        wire.close()
        return answer

    def stop(self, **request: Any) -> dict[str, Any]:
        answer = self.wire().ask("stop", **request)
        assert self.ended() == 0
        return answer

    def ended(self) -> int:
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        for wire in self.wires:
            wire.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(DEADLINE)


def marked(marker: str) -> list[int]:
    """The living processes that were started with this marker."""
    found = []
    for pid in keeper_tree.all_pids():
        with suppress(OSError):
            if marker.encode() in Path(f"/proc/{pid}/environ").read_bytes() and alive(pid):
                found.append(pid)
    return found


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], Run]]:
    """Makes runs that share one folder; afterwards no process of theirs is left."""
    marker = uuid.uuid4().hex
    runs: list[Run] = []

    def one() -> Run:
        runs.append(Run(tmp_path, marker))
        return runs[-1]

    yield one
    try:
        for run in runs:
            run.close()
        until(lambda: not marked(marker))
    finally:
        for pid in marked(marker):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def run(make: Callable[[], Run]) -> Run:
    return make()


@pytest.fixture
def shm() -> Iterator[Path]:
    """The path of a file in /dev/shm that does not exist yet."""
    path = Path("/dev/shm") / f"keeper-test-{uuid.uuid4().hex}"
    yield path
    path.unlink(missing_ok=True)


# The start


def test_start_answers_with_both_pids_and_status_tells_the_rest(run: Run) -> None:
    run.engine("polite")
    status = run.status()
    assert run.reply == {"keeper": run.process.pid, "engine": status["engine"]}
    assert status["tree"] == [status["engine"]]
    assert (status["state"], status["exit"], status["last_line"]) == ("running", None, "polite ready")
    assert abs(status["started"] - time.time()) < DEADLINE
    assert 50 < status["lease_left"] <= 60


def test_the_engine_gets_a_session_default_signals_and_no_descriptor_but_0_1_2(run: Run) -> None:
    run.start(["sh", "-c", "echo ready; exec sleep 1000"])
    engine = run.reply["engine"]
    until(lambda: "ready" in run.text() and Path(f"/proc/{engine}/comm").read_text() == "sleep\n")
    assert os.getsid(engine) == engine
    assert sorted(os.listdir(f"/proc/{engine}/fd")) == ["0", "1", "2"]
    assert os.readlink(f"/proc/{engine}/fd/0") == "/dev/null"
    lines = Path(f"/proc/{engine}/status").read_text().splitlines()
    signals = {line[:6]: int(line[8:], 16) for line in lines if line.startswith(("SigIgn", "SigBlk"))}
    of_libc = 1 << 31 | 1 << 32  # glibc's own two, which posix_spawn leaves ignored
    assert (signals["SigIgn"] & ~of_libc, signals["SigBlk"]) == (0, 0)


def test_the_engine_gets_exactly_its_arguments_environment_and_folder(run: Run) -> None:
    env = {"ODD": "a=b \udcff", "KEEPER_TEST": run.marker}
    code = "import os; print(os.getcwd(), sorted(os.environb.items()), os.umask(0))"
    umask = os.umask(0o22)
    os.umask(umask)
    run.python(code, env=env | {"LC_CTYPE": "C.UTF-8"})
    run.ended()
    wanted = sorted((os.fsencode(name), os.fsencode(text)) for name, text in (env | {"LC_CTYPE": "C.UTF-8"}).items())
    assert run.text() == f"{run.socket.parent} {wanted} {umask}\n"


def test_the_program_is_searched_on_the_path_of_the_engine(run: Run, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "an-engine"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o700)
    run.start(["an-engine"], env={"PATH": str(program.parent), "KEEPER_TEST": run.marker})
    assert run.ended() == 0
    assert run.text() == "found\n"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"argv": ["/no/such", SECRET]}, "cannot start /no/such: No such file or directory"),
        ({"argv": ["/dev/null", SECRET]}, "cannot start /dev/null: Permission denied"),
        ({"cwd": "/no/such"}, "cannot enter /no/such: No such file or directory"),
        ({"log": "/no/such/x.log"}, "[Errno 2] No such file or directory: '/no/such/x.log'"),
        ({"socket": "/tmp/" + "x" * 200}, "AF_UNIX path too long"),
        ({"argv": []}, "ValueError: argv is a list of text, env an object"),
        ({"lease": "soon"}, "ValueError: not a number of seconds"),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_no_socket(run: Run, changes: dict[str, Any], error: str) -> None:
    run.start(**{"argv": ["true"]} | changes)
    assert run.reply == {"error": error}
    assert run.ended() == 1
    assert not run.socket.exists()


def test_a_stale_socket_is_replaced_and_is_for_this_user_only(run: Run) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(run.socket))
    run.engine("polite")
    assert run.socket.stat().st_mode & 0o777 == 0o600
    assert run.log.stat().st_mode & 0o777 == 0o600
    assert run.status()["state"] == "running"


def test_the_socket_of_a_living_keeper_is_not_taken(make: Callable[[], Run]) -> None:
    first = make().engine("polite")
    second = make().start(["true"])
    assert second.reply == {"error": f"another keeper answers on {second.socket}"}
    assert second.ended() == 1
    assert first.status()["state"] == "running"


def test_a_file_that_is_no_socket_is_not_removed(run: Run) -> None:
    run.socket.write_text("precious")
    run.start(["true"])
    assert run.reply == {"error": "[Errno 98] Address already in use"}
    assert run.ended() == 1
    assert run.socket.read_text() == "precious"


def test_who_reads_the_reply_to_stop_may_start_the_next_run_at_once(make: Callable[[], Run]) -> None:
    for number in range(1, 4):
        run = make().start(["sh", "-c", f"echo run {number}; exec sleep 1000"])
        assert "engine" in run.reply
        until(lambda: f"run {number}" in run.text())  # noqa: B023
        assert run.wire().ask("stop") == {"exit": -15, "killed": 0, "left": []}
    assert run.text() == "run 1\nrun 2\nrun 3\n"


def test_secrets_are_neither_in_the_log_nor_in_the_command_line_nor_in_an_answer(run: Run) -> None:
    run.start(["sh", "-c", "exec sleep 1000", SECRET])
    wire = run.wire()
    seen = [run.text(), str(run.reply), Path(f"/proc/{run.process.pid}/cmdline").read_text()]
    seen += [str(wire.ask(op)) for op in ("status", "tail", "nonsense", "stop")]
    assert not any(SECRET in text for text in seen)


# The end


@pytest.mark.parametrize(
    ("behaviour", "grace", "exit_code", "killed"),
    [
        ("polite", 5, 0, 0),
        ("deaf", 0.2, -9, 1),
        ("daemon", 0.2, 0, 1),
        ("group", 0.2, 0, 1),
        ("stopped", 5, 0, 0),
        ("deaf_family", 0.2, -9, 3),
        ("threads", 0.2, 0, 1),
    ],
)
def test_stop_ends_the_whole_tree(run: Run, behaviour: str, grace: float, exit_code: int, killed: int) -> None:
    tree = run.engine(behaviour).status()["tree"]
    assert run.stop(grace=grace) == {"exit": exit_code, "killed": killed, "left": []}
    assert not any(alive(pid) for pid in tree)
    assert not run.socket.exists()
    assert ("bye" in run.text()) == (exit_code == 0)
    assert ("the stopped child heard" in run.text()) == (behaviour == "stopped")


@pytest.mark.parametrize("attempt", range(5))
def test_a_tree_that_forks_for_ever_is_ended(run: Run, attempt: int) -> None:  # noqa: ARG001
    run.engine("storm")
    answer = run.stop(grace=0)
    assert (answer["exit"], answer["left"]) == (-9, [])
    assert marked(run.marker) == []


def test_no_one_but_the_leader_gets_a_signal_while_the_leader_lives(run: Run) -> None:
    code = (
        "import os, signal, sys\n"
        "reader, writer = os.pipe()\n"
        "def child(*_): print('child told', flush=True); os._exit(0)\n"
        "def leader(*_): print('leader told', flush=True)\n"
        "signal.signal(signal.SIGTERM, child)\n"
        "pid = os.fork()\n"
        "if pid:\n    signal.signal(signal.SIGTERM, leader)\n    print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    run.python(code)
    until(lambda: "ready" in run.text())
    wire = run.wire()
    wire.send(op="stop", grace=60)
    until(lambda: "leader told" in run.text())
    assert len(run.status()["tree"]) == 2
    assert run.status()["state"] == "stopping"
    os.kill(run.reply["engine"], signal.SIGKILL)
    assert wire.read() == {"exit": -9, "killed": 0, "left": []}
    assert run.text() == "ready\nleader told\nchild told\n"


def test_a_second_stop_shortens_the_grace_and_both_are_answered(run: Run) -> None:
    run.engine("deaf")
    first, second = run.wire(), run.wire()
    first.send(op="stop", grace=1000)
    until(lambda: run.status()["state"] == "stopping")
    second.send(op="stop", grace=0)
    assert first.read() == second.read() == {"exit": -9, "killed": 1, "left": []}


def test_an_own_exit_is_pushed_to_every_client_with_the_end_of_the_output(run: Run, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    run.start(["sh", "-c", f"read line < {go}; echo CUDA out of memory; exit 3"])
    wires = [run.wire(), run.wire()]
    assert [wire.ask("renew") for wire in wires] == [{"ok": True, "shm": []}] * 2
    go.write_text("now")
    event = {"event": "exit", "reason": "exit", "exit": 3, "tail": "CUDA out of memory\n", "killed": 0, "left": []}
    assert [wire.read() for wire in wires] == [event, event]
    assert all(wire.at_end() for wire in wires)
    assert run.ended() == 0


def test_the_deaf_children_of_a_killed_leader_are_ended_after_the_grace(run: Run) -> None:
    run.engine("deaf_family", grace=0.3)
    wire = run.wire()
    assert len(wire.ask("status")["tree"]) == 3
    os.kill(run.reply["engine"], signal.SIGKILL)
    until(lambda: run.status()["state"] == "exited")
    assert run.status()["exit"] == -9
    event = wire.read()
    assert (event["event"], event["exit"], event["killed"], event["left"]) == ("exit", -9, 2, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_process_that_cannot_be_ended_is_reported_as_left(run: Run, tmp_path: Path) -> None:
    """A process of another user stands for one that the kernel does not let go."""
    # The keeper gives up root after its start: the engine, a root process, is out of its reach.
    script = tmp_path / "unprivileged.py"
    script.write_text(
        f"import os, sys\nsys.path.append({str(ROOT)!r})\nfrom router.fleet import keeper\n"
        "run = keeper.Keeper.run\n"
        "def drop(self): os.setuid(65534); run(self)\n"
        "keeper.Keeper.run = drop\nsys.exit(keeper.main())\n"
    )
    run.start(["sleep", "1000"], script=script, kill_wait=0.2)
    engine = run.reply["engine"]
    try:
        assert run.stop(grace=0) == {"exit": None, "killed": 0, "left": [engine]}
    finally:
        os.kill(engine, signal.SIGKILL)


def test_a_recycled_pid_is_not_signalled() -> None:
    with subprocess.Popen(["/bin/sleep", "1000"]) as other:
        start = keeper_tree.read_stat(other.pid)[1]
        assert not keeper_tree.send(other.pid, start - 1, signal.SIGKILL)
        assert alive(other.pid)
        assert keeper_tree.send(other.pid, start, signal.SIGKILL)
        assert other.wait(DEADLINE) == -9


def test_a_fault_of_the_keeper_ends_the_engine(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "faulty.py"
    script.write_text(
        f"import os, sys\nsys.path.append({str(ROOT)!r})\nfrom router.fleet import keeper\n"
        "keeper.Keeper._status = lambda self: 1 / 0\nsys.exit(keeper.main())\n"
    )
    run.engine("daemon", script=script)
    run.wire().send(op="status")
    assert run.ended() == 1
    assert marked(run.marker) == []
    assert "[keeper] the keeper failed and killed the engine: ZeroDivisionError\n" in run.text()


# Lease and signals


def test_a_lease_that_nobody_renews_ends_the_engine(run: Run) -> None:
    run.engine("polite", lease=1)
    event = run.wire().read()
    assert (event["event"], event["reason"], event["exit"]) == ("exit", "lease", 0)
    assert run.ended() == 0
    assert "[keeper] ending the engine: no router renewed its lease\n" in run.text()


def test_renew_replaces_what_is_left_of_the_lease(run: Run) -> None:
    wire = run.engine("polite", lease=30).wire()
    assert wire.ask("renew", lease=1000) == {"ok": True, "shm": []}
    assert wire.ask("status")["lease_left"] > 900
    assert wire.ask("renew") == {"ok": True, "shm": []}
    assert wire.ask("status")["lease_left"] > 900
    assert wire.ask("renew", lease="long") == {"error": "not a number of seconds"}
    assert wire.ask("renew", lease=0.1) == {"ok": True, "shm": []}
    assert wire.read()["reason"] == "lease"


def test_the_end_of_the_last_holders_connection_leaves_the_engine_the_orphan_grace(run: Run) -> None:
    first, second = run.engine("polite", lease=1000, orphan_grace=5).wire(), run.wire()
    for wire in (first, second):
        assert wire.ask("renew") == {"ok": True, "shm": []}
    first.close()
    assert second.ask("status")["lease_left"] > 900
    second.close()
    until(lambda: run.status()["lease_left"] <= 5)


def test_who_only_asks_does_not_hold_the_engine(run: Run) -> None:
    holder = run.engine("polite", orphan_grace=0).wire()
    assert holder.ask("renew") == {"ok": True, "shm": []}
    asking = run.wire()
    assert asking.ask("status")["state"] == "running"
    asking.close()
    assert holder.ask("status")["state"] == "running"


def test_without_an_orphan_grace_the_engine_ends_with_its_router(run: Run) -> None:
    holder, watching = run.engine("polite", lease=1000, orphan_grace=0).wire(), run.wire()
    assert watching.ask("status")["state"] == "running"
    assert holder.ask("renew") == {"ok": True, "shm": []}
    holder.close()
    assert watching.read()["reason"] == "lease"


def test_a_new_holder_saves_the_engine(run: Run) -> None:
    first = run.engine("polite", lease=1000, orphan_grace=30).wire()
    assert first.ask("renew") == {"ok": True, "shm": []}
    first.close()
    until(lambda: run.status()["lease_left"] <= 30)
    second = run.wire()
    assert second.ask("renew", lease=500, orphan_grace=0) == {"ok": True, "shm": []}
    assert second.ask("status")["lease_left"] > 400


def test_the_note_comes_back_as_it_was_given(run: Run) -> None:
    assert run.engine("polite").wire().ask("note") == {"note": {"model": "m", "key": SECRET}}


def test_an_engine_whose_keeper_was_killed_is_told_to_end(run: Run) -> None:
    run.engine("polite")
    run.process.kill()
    until(lambda: not marked(run.marker))


def test_a_signal_to_the_keeper_shortens_a_stop(run: Run) -> None:
    wire = run.engine("deaf", grace=0).wire()
    wire.send(op="stop", grace=1000)
    until(lambda: run.status()["state"] == "stopping")
    run.process.terminate()
    assert wire.read() == {"exit": -9, "killed": 1, "left": []}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_keeper_is_a_stop(run: Run, number: signal.Signals) -> None:
    wire = run.engine("polite").wire()
    assert wire.ask("renew") == {"ok": True, "shm": []}
    run.process.send_signal(number)
    assert wire.read()["reason"] == "signal"
    assert run.ended() == 0
    assert "bye" in run.text()


def test_the_keeper_ignores_a_hangup(run: Run) -> None:
    run.engine("polite")
    run.process.send_signal(signal.SIGHUP)
    assert run.status()["state"] == "running"


# Shared memory


def test_the_shared_memory_of_a_killed_engine_is_removed(run: Run, shm: Path) -> None:
    run.engine("shm", shm.name)
    assert shm.exists()
    assert run.stop(grace=0)["killed"] == 1
    assert not shm.exists()


def test_shared_memory_that_another_process_holds_is_kept(run: Run, shm: Path) -> None:
    run.engine("shm", shm.name)
    with shm.open("rb"):
        run.stop(grace=0)
    assert shm.exists()


def test_a_file_that_was_in_dev_shm_before_the_engine_is_kept(run: Run, shm: Path) -> None:
    shm.write_bytes(b"weights!" * 512)
    run.engine("shm", shm.name)
    run.stop(grace=0)
    assert shm.exists()


def test_a_file_that_the_engine_only_read_is_kept(make: Callable[[], Run], shm: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    run = make().start(["sh", "-c", f"cat {go}; exec {sys.executable} {MISBEHAVE} read_shm {shm.name}"])
    shm.write_bytes(b"weights!" * 512)
    go.write_text("")
    until(lambda: "ready" in run.text())
    run.stop(grace=0)
    assert shm.exists()


def test_multiprocessing_cleans_up_after_itself_before_anyone_kills_its_tracker(run: Run) -> None:
    before = set(os.listdir("/dev/shm"))
    run.engine("python_shm")
    made = set(os.listdir("/dev/shm")) - before
    assert len([name for name in made if name.startswith(("psm_", "sem.mp-"))]) >= 2
    assert len(run.status()["tree"]) == 3  # the leader, the worker, the tracker
    assert run.stop(grace=0) == {"exit": -9, "killed": 2, "left": []}
    assert not made & set(os.listdir("/dev/shm"))


# Clients


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"what?\n", "a request is one line of JSON"),
        (b"\xff\n", "a request is one line of JSON"),
        (b"[" * 50_000 + b"\n", "a request is one line of JSON"),
        (b"[]\n", 'a request is an object, such as {"op": "status"}'),
        (b'{"op": "fly"}\n', "unknown op: it is one of status, note, renew, tail, stop"),
        (b'{"op": ["stop"]}\n', "unknown op: it is one of status, note, renew, tail, stop"),
        (b'{"op": "stop", "grace": -1}\n', "not a number of seconds"),
        (b'{"op": "stop", "grace": NaN}\n', "not a number of seconds"),
        (b'{"op": "stop", "grace": true}\n', "not a number of seconds"),
    ],
)
def test_a_bad_request_gets_an_error_and_the_connection_stays(run: Run, line: bytes, error: str) -> None:
    wire = run.engine("polite").wire()
    wire.sock.sendall(line)
    assert wire.read() == {"error": error}
    assert wire.ask("status")["state"] == "running"


@pytest.mark.parametrize("line", [b"x" * 65_537, b"x" * 65_537 + b"\n", b"x" * 10_000_000])
def test_an_oversized_request_gets_an_error_and_the_connection_is_closed(run: Run, line: bytes) -> None:
    wire = run.engine("polite").wire()
    with suppress(BrokenPipeError, ConnectionResetError):
        wire.sock.sendall(line)
    assert wire.read() == {"error": "a request is at most 65536 bytes"}
    assert wire.at_end()
    assert run.status()["state"] == "running"


def test_requests_are_answered_in_order_also_when_they_come_in_one_piece_or_in_many(run: Run) -> None:
    wire = run.engine("polite").wire()
    wire.sock.sendall(b'{"op": "renew"}\n{"op": "tail"}\n{"op": "sta')
    assert wire.read() == {"ok": True, "shm": []}
    assert wire.read() == {"tail": "polite ready\n"}
    wire.sock.sendall(b'tus"}\n')
    assert wire.read()["state"] == "running"


def test_a_client_that_closes_its_side_still_gets_its_answer(run: Run) -> None:
    run.engine("polite")
    for op, key in (("status", "state"), ("stop", "exit")):
        wire = run.wire()
        wire.send(op=op)
        wire.send(op=op)
        wire.sock.shutdown(socket.SHUT_WR)
        assert key in wire.read()
        assert key in wire.read()
        assert wire.at_end()


def test_a_client_that_never_reads_is_dropped_and_blocks_no_one(run: Run) -> None:
    run.python("print('x' * 9000); import signal; signal.pause()")
    stuck, other = run.wire(), run.wire()
    stuck.sock.settimeout(0.5)
    request = b'{"op": "tail"}\n' * 100_000
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        stuck.sock.sendall(request)
    assert other.ask("status")["state"] == "running"
    assert run.stop()["left"] == []


def test_more_clients_than_it_serves_are_turned_away(run: Run) -> None:
    run.engine("polite")
    wires = [run.wire() for _ in range(64)]
    assert wires[-1].ask("renew") == {"ok": True, "shm": []}
    assert run.wire().at_end()
    wires[0].close()
    until(lambda: len(os.listdir(f"/proc/{run.process.pid}/fd")) < 64 + 10)
    assert run.status()["state"] == "running"


# Cost


def test_it_takes_less_than_16_mib_while_the_engine_logs(run: Run) -> None:
    run.python(
        "import signal\n"
        "for number in range(200000): print('a line of the log', number)\n"
        "print('done', flush=True)\n"
        "signal.pause()"
    )
    wire = run.wire()
    until(lambda: wire.ask("status")["last_line"] == "done")
    status = Path(f"/proc/{run.process.pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 16 * 1024  # measured: 13 MiB


def test_it_does_not_spin_whatever_its_clients_do(run: Run) -> None:
    """Clients that have gone, or closed their side, or are owed an answer; an engine that has closed its output."""
    run.python(
        "import os, signal\nsignal.signal(15, signal.SIG_IGN)\nos.close(1); os.close(2)\nwhile True: signal.pause()"
    )
    until(lambda: not Path(f"/proc/{run.reply['engine']}/fd/1").exists())
    run.wire().close()
    half, gone, last = run.wire(), run.wire(), run.wire()
    for wire in (half, gone):
        wire.send(op="stop", grace=1000)
    half.sock.shutdown(socket.SHUT_WR)
    gone.close()
    until(lambda: run.status()["state"] == "stopping")
    last.sock.settimeout(0.5)

    def busy() -> int:
        fields = Path(f"/proc/{run.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = busy()
    with pytest.raises(TimeoutError):
        last.read()
    assert busy() - before <= 2  # ticks of 10 ms, of 50
    run.stop(grace=0)

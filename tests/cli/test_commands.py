"""The commands, as a person or a script calls them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from running import DEADLINE, Up, fake, is_alive, until

from router import __version__
from router.cli import COMMANDS

ROUTER = [sys.executable, "-m", "router"]
FIELDS = [
    "model", "replica", "engine", "state", "pid", "address", "gpus", "uptime_s", "restarts", "in_flight", "error",
    "diagnosis", "circuit",
]  # fmt: skip


def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ROUTER, *map(str, arguments)],
        capture_output=True, text=True, timeout=DEADLINE, env=os.environ | environment, check=False,
    )  # fmt: skip


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = call(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Example: router {command}" in done.stdout


def test_the_program_has_help_with_an_example_and_every_command() -> None:
    done = call("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Example: router up -c router.yaml" in done.stdout
    assert all(text in done.stdout for text in COMMANDS.values())
    assert call("-h").stdout == done.stdout


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from router.cli import group\n"
        "try: group(['--help'], prog_name='router')\n"
        "except SystemExit: pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"starlette", "uvicorn", "httpx2", "yaml", "asyncio", "anyio", "rich", "psutil", "msgspec", "launchers"}
    assert not heavy & set(eval(done.stderr))  # noqa: S307

    def once() -> float:
        began = time.monotonic()
        call("--help")
        return time.monotonic() - began

    assert min(once() for _ in range(5)) < 0.2  # measured: 0.07 s


def test_the_version_is_told() -> None:
    assert call("--version").stdout == f"router, version {__version__}\n"


def test_the_installed_program_is_the_same() -> None:
    program = Path(sys.executable).with_name("router")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == call("--version").stdout


def test_an_unknown_command_is_named() -> None:
    done = call("fly")
    assert done.returncode == 2
    assert "No such command 'fly'" in done.stderr


# No router


@pytest.mark.parametrize("command", [["ps"], ["ps", "--json"], ["down"], ["down", "--now"], ["logs", "m"]])
def test_without_a_router_a_command_says_in_one_line_what_to_do(up: Up, command: list[str]) -> None:
    done = up.write({"m": fake()}).cli(*command)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert str(up.state_dir) in line
    assert "router up" in line


@pytest.mark.parametrize("command", ["ps", "down"])
def test_the_socket_of_a_killed_router_is_no_router(up: Up, command: str) -> None:
    up.ready({"m": fake()}, orphan_grace="0s")
    up.look()
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    done = up.cli(command)
    assert done.returncode == 1
    assert "no router runs in" in done.stderr
    up.start()  # for the end of its engines
    up.wait_for("ready")


def test_a_router_that_hangs_is_not_said_to_be_gone(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    up.ready({"m": fake()})
    monkeypatch.setattr("router.console.client.TIMEOUT", 0.3)
    os.kill(up.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Exception, match="does not answer: timed out"):
            up.client.info()
    finally:
        os.kill(up.pid, signal.SIGCONT)


# ps


def test_ps_tells_what_the_issue_asks_for(up: Up) -> None:
    up.ready({"m": fake(replicas=2), "far": {"url": "http://127.0.0.1:9/v1"}})
    done = up.cli("ps", "--json")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert [list(row) for row in rows] == [FIELDS] * 3
    assert [(row["model"], row["replica"], row["engine"], row["state"]) for row in rows] == [
        ("m", 0, "command", "ready"),
        ("m", 1, "command", "ready"),
        ("far", 0, "remote", "ready"),
    ]
    for row in rows[:2]:
        assert is_alive(row["pid"])
        assert row["address"].startswith("127.0.0.1:")
        assert row["uptime_s"] > 0
    assert (rows[0]["gpus"], rows[0]["restarts"], rows[0]["in_flight"], rows[0]["error"]) == (None, 0, 0, None)
    table = up.cli("ps").stdout.splitlines()
    assert table[0].split() == [field.upper().replace("_", "-").removesuffix("-S") for field in FIELDS[:-2]]
    assert [line.split()[:4] for line in table[1:]] == [
        ["m", "0", "command", "ready"],
        ["m", "1", "command", "ready"],
        ["far", "0", "remote", "ready"],
    ]


def test_ps_shows_why_an_engine_failed(up: Up) -> None:
    up.write({"m": fake("--exit", 3)}).start()
    up.wait_for("failed")
    assert "exited with status 3: exiting with 3" in up.cli("ps").stdout


# logs


def test_logs_prints_the_last_lines_of_all_files(up: Up) -> None:
    up.ready({"m": fake("--flood", 3000)}, log={"max_size": "100KiB", "keep": 5})
    until(lambda: up.cli("logs", "m", "-n", "1").stdout.strip() == f"{2999:099d}")
    lines = up.cli("logs", "m", "-n", "2500").stdout.splitlines()
    assert [int(line) for line in lines] == list(range(500, 3000))  # the current file holds about 1,000
    assert len(up.cli("logs", "m").stdout.splitlines()) == 200
    assert up.cli("logs", "m", "-n", "0").stdout == ""
    assert up.end() == 0
    assert up.cli("logs", "m", "-n", "1").stdout == f"{2999:099d}\n"  # also when all has ended


def test_logs_of_an_unknown_model_or_replica_names_those_there_are(up: Up) -> None:
    up.ready({"org/m": fake(), "n": fake()})
    done = up.cli("logs", "x")
    assert done.returncode == 1
    assert done.stderr.endswith("models with a log: n, org/m\n")
    assert up.cli("logs", "n", "--replica", "1").returncode == 1
    assert "loaded" in up.cli("logs", "org/m").stdout


def test_following_a_log_misses_nothing_when_it_is_rotated(up: Up) -> None:
    up.ready({"m": fake()})
    log = up.state_dir / "logs/m.0.log"
    argv = [*ROUTER, "logs", "m", "-f", "-n", "0", "-c", str(up.file)]
    follow = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert follow.stdout is not None
    os.set_blocking(follow.stdout.fileno(), False)
    got = b""

    def read() -> bytes:
        nonlocal got
        got += follow.stdout.read() or b"" if follow.stdout else b""
        return got

    def begin() -> bytes:
        with log.open("ab") as file:
            file.write(b"begin\n")
        return read()

    until(begin)
    for number in range(30):
        with log.open("ab") as file:
            file.write(b"%d\n" % number)
        if number % 2:  # several times between two looks
            for older in range(20, 0, -1):
                if (path := log.with_name(f"{log.name}.{older}")).exists():
                    path.rename(log.with_name(f"{log.name}.{older + 1}"))
            log.rename(log.with_name(f"{log.name}.1"))
            log.touch()
    until(lambda: b"\n29\n" in read())
    assert [int(line) for line in got.split() if line != b"begin"] == list(range(30))
    follow.send_signal(signal.SIGINT)
    assert follow.wait(DEADLINE) == 0
    follow.stdout.close()


# Two of them, ports


def test_a_second_router_on_a_state_folder_is_refused_with_the_first_ones_pid_and_address(up: Up) -> None:
    up.ready({"m": fake()})
    done = up.cli("up")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"a router runs already with {up.state_dir} (pid {up.pid} at {up.address})" in line
    assert up.row().state == "ready"


@pytest.mark.parametrize("listening", [False, True])
def test_a_port_in_use_is_an_error_and_starts_nothing(up: Up, listening: bool) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listening:
            other.listen()
        port = other.getsockname()[1]
        done = up.write({"m": fake()}, listen=f"127.0.0.1:{port}").cli("up")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == f"router: cannot listen on 127.0.0.1:{port}: Address already in use; free it, or change `listen`"
    assert list((up.state_dir / "run").iterdir()) == []
    assert list((up.state_dir / "logs").iterdir()) == []


@pytest.mark.parametrize("taken", ["router.lock", "router.sock"])
def test_a_state_folder_that_cannot_be_used_is_an_error(up: Up, taken: str) -> None:
    (up.state_dir / taken).mkdir(parents=True)
    done = up.write({"m": fake()}).cli("up")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line == f"router: cannot keep its state in {up.state_dir}: Is a directory; set another `state_dir`"


def test_a_fault_of_the_routers_own_is_one_line_and_ends_everything(up: Up) -> None:
    code = (
        "import sys\n"
        "from router.cli import main\n"
        "from router.fleet.engine import Engine\n"
        "real = Engine._offer\n"
        "def offer(self, *rest):\n"
        "    if self.spec.name == 'broken': raise RuntimeError('a fault')\n"
        "    return real(self, *rest)\n"
        "Engine._offer = offer\n"
        "main()"
    )
    up.write({name: fake("--load", load, "--daemon", stop_grace="300ms") for name, load in (("m", 0), ("broken", 1))})
    argv = [sys.executable, "-c", code, "up", "-c", str(up.file)]
    with up.output.open("ab") as output:
        up.process = subprocess.Popen(argv, stdout=output, stderr=output)
    until(lambda: "m#0 ready" in up.text())
    up.look()
    assert up.process.wait(DEADLINE) == 1
    last = up.text().splitlines()[-1]
    assert last.startswith(
        "router: ended, and its engines with it, by a fault of its own: RuntimeError: a fault (in offer"
    )
    assert "Traceback" not in up.text()
    assert up.left() == []


# --detach


def detach(up: Up, **options: Any) -> "subprocess.Popen[str]":
    argv = [*ROUTER, "up", "--detach", "-c", str(up.file)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_detach_waits_until_all_is_ready_and_tells_how_to_go_on(up: Up) -> None:
    up.write({"m": fake("--load", 1, aliases=["gpt"]), "e": fake(kind="embedding")})
    waiting = detach(up)
    out, err = waiting.communicate(timeout=DEADLINE)
    assert (waiting.returncode, err) == (0, "")
    assert [row.state for row in up.rows()] == ["ready", "ready"]
    info = up.client.info()
    assert f"{info.address}/v1\n" in out
    assert "m  chat  also as gpt" in out
    assert f"curl {info.address}/v1/chat/completions" in out
    assert f"(pid {info.pid}, log {up.state_dir}/router.log); end it with `router down -c {up.file}`." in out
    up.look()
    assert os.getpgid(info.pid) == info.pid
    assert (up.state_dir / "router.log").stat().st_mode & 0o777 == 0o600
    assert up.cli("down").returncode == 0
    assert up.left() == []


def test_detach_is_not_led_astray_by_a_folder_called_router(up: Up) -> None:
    (up.folder / "router.py").write_text("raise SystemExit('the wrong program')")
    program = Path(sys.executable).with_name("router")
    done = subprocess.run(
        [program, "up", "--detach", "-c", up.write({"m": fake()}).file], cwd=up.folder, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert up.cli("down").returncode == 0


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (
            ["--exit", 4],
            "m#0: exited with status 4: exiting with 4; nothing runs now, see LOG and `router logs m -c FILE`",
        ),
        (["--mute", "--daemon"], "m#0: not ready within `start_timeout`"),
    ],
)
def test_detach_of_an_engine_that_fails_gives_the_reason_and_leaves_nothing(
    up: Up, flags: list[Any], reason: str
) -> None:
    up.write({"m": fake(*flags, start_timeout="1500ms", stop_grace="300ms"), "n": fake("--daemon", stop_grace="300ms")})
    waiting = detach(up)
    while waiting.poll() is None:
        up.look()
    _, err = waiting.communicate()
    assert waiting.returncode == 1
    assert reason.replace("LOG", f"{up.state_dir}/router.log").replace("FILE", str(up.file)) in err
    assert len(err.splitlines()) == 1
    assert up.seen
    assert not any(map(is_alive, up.seen))
    assert up.marked() == []


def test_detach_of_a_router_that_cannot_start_gives_its_reason(up: Up) -> None:
    up.ready({"m": fake()})
    waiting = detach(up)
    _, err = waiting.communicate(timeout=DEADLINE)
    assert waiting.returncode == 1
    assert f"the router ended at once: router: a router runs already with {up.state_dir} (pid {up.pid} at" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_while_detach_waits_ends_the_detached_router_as_well(up: Up, number: signal.Signals) -> None:
    up.write({"m": fake("--load", 60, "--daemon", stop_grace="300ms")})
    waiting = detach(up)
    until(lambda: up.rows() and up.row().pid)
    up.seen.add(up.client.info().pid)
    up.look()
    waiting.send_signal(number)
    _, err = waiting.communicate(timeout=DEADLINE)
    assert (waiting.returncode, err) == (1, "router: stopped before everything was ready; nothing runs now\n")
    assert not any(map(is_alive, up.seen))
    assert up.marked() == []


@pytest.mark.parametrize("after", [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.25, 0.3, 0.4])
def test_ctrl_c_at_any_moment_of_detach_leaves_nothing(up: Up, after: float) -> None:
    """Also in the middle of an import, where Python makes a KeyboardInterrupt that was caught a death by SIGINT."""
    up.write({"m": fake("--load", 60, stop_grace="300ms")})
    waiting = detach(up)
    until((up.state_dir / "router.log").exists)
    time.sleep(after)
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=DEADLINE)
    assert waiting.returncode == 1
    assert up.marked() == []


@pytest.mark.parametrize("after", [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_of_a_start_is_not_lost(up: Up, number: signal.Signals, after: float) -> None:
    up.write({"m": fake("--load", 60, stop_grace="300ms")})
    starting = subprocess.Popen(
        [*ROUTER, "up", "-c", str(up.file)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    time.sleep(after)
    starting.send_signal(number)
    starting.communicate(timeout=DEADLINE)
    assert starting.returncode in {0, 1, -number}  # the last two before our first line, while Python imports
    assert up.marked() == []


def test_nohup_is_respected(up: Up) -> None:
    up.write({"m": fake()})
    with up.output.open("ab") as output:
        argv = [shutil.which("nohup") or "nohup", *ROUTER, "up", "-c", str(up.file)]
        up.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    up.wait_for("ready")
    os.kill(up.pid, signal.SIGHUP)
    time.sleep(0.5)
    assert up.row().state == "ready"


def test_plan_says_of_a_terminated_model_that_it_stays_so(up: Up) -> None:
    up.ready({"m": fake(), "n": fake()})
    with urlopen(Request(f"{up.address}/v1/models/m", method="DELETE"), timeout=DEADLINE) as answer:
        assert answer.status == 200
    planned = up.cli("plan")
    assert planned.stdout.splitlines() == ["  keep    m (it is terminated, and stays so)", "  keep    n"]

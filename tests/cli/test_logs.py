"""`router logs`: on logs that a keeper's writer made here, and on those of engines that run."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from running import DEADLINE, Up, fake, until

from router.cli.log_reader import LogReader
from router.fleet.keeper_log import Clock, Log

PREFIX = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


class At(Clock):
    """A clock that stands still."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def stamp(self) -> bytes:
        return f"{self.moment:%Y-%m-%dT%H:%M:%S}.{self.moment.microsecond // 1000:03}Z ".encode()


class Follower:
    """`router logs -f` as a process."""

    def __init__(self, up: Up, *arguments: str) -> None:
        argv = [sys.executable, "-m", "router", "logs", "-f", *arguments, "-c", str(up.file)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.got = {self.process.stdout: b"", self.process.stderr: b""}
        for stream in self.got:
            assert stream is not None
            os.set_blocking(stream.fileno(), False)

    def read(self, stderr: bool = False) -> str:
        stream = self.process.stderr if stderr else self.process.stdout
        assert stream is not None
        self.got[stream] += stream.read() or b""
        return self.got[stream].decode()

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def follow() -> Iterator[Callable[..., Follower]]:
    made: list[Follower] = []

    def one(up: Up, *arguments: str) -> Follower:
        made.append(Follower(up, *arguments))
        return made[-1]

    yield one
    for each in made:
        each.close()


@pytest.fixture
def two(up: Up) -> Up:
    """The file of a model with two replicas."""
    up.write({"m": fake(replicas=2, aliases=["also"])})
    (up.state_dir / "logs").mkdir(parents=True)
    return up


def log(up: Up, replica: int = 0, model: str = "m", keep: int = 3) -> Log:
    return Log(str(up.state_dir / "logs" / f"{model}.{replica}.log"), 1_000, keep)


def write(log: Log, text: str, at: datetime | None = None) -> None:
    log.clock = Clock() if at is None else At(at)
    log.write(text.encode())


def minutes_ago(number: float) -> datetime:
    return datetime.now(UTC) - timedelta(minutes=number)


# Which lines, in which form


def test_times_stand_in_the_file_and_are_printed_when_asked_for(two: Up) -> None:
    write(log(two), "a\n\nb")
    assert two.cli("logs", "m").stdout == "a\n\nb"
    assert re.fullmatch(f"{PREFIX}a\n{PREFIX}\n{PREFIX}b", two.cli("logs", "m", "-t").stdout)


def test_all_replicas_are_printed_in_the_order_of_their_lines_each_with_its_name(two: Up) -> None:
    one, other = log(two, 0), log(two, 1)
    for number in range(6):
        write((one, other)[number % 2], f"{number}\n", minutes_ago(10 - number))
    assert two.cli("logs", "m").stdout == "m#0 | 0\nm#1 | 1\nm#0 | 2\nm#1 | 3\nm#0 | 4\nm#1 | 5\n"
    assert two.cli("logs", "m", "-n", "3").stdout == "m#1 | 3\nm#0 | 4\nm#1 | 5\n"
    assert two.cli("logs", "m", "--replica", "1", "-n", "2").stdout == "3\n5\n"
    assert re.match(f"m#0 \\| {PREFIX}0\n", two.cli("logs", "m", "-t").stdout)


def test_lines_of_one_moment_stay_together(two: Up) -> None:
    now = minutes_ago(1)
    write(log(two, 1), "Traceback:\n  one\n  two\n", now)
    write(log(two, 0), "x\ny\n", now)
    assert two.cli("logs", "m").stdout == "m#0 | x\nm#0 | y\nm#1 | Traceback:\nm#1 |   one\nm#1 |   two\n"


def test_lines_stay_in_their_order_when_the_clock_is_set_back(two: Up) -> None:
    file = log(two)
    for number, minutes in enumerate((3, 2, 30, 29)):
        write(file, f"{number}\n", minutes_ago(minutes))
    write(log(two, 1), "other\n", minutes_ago(1))
    assert two.cli("logs", "m").stdout == "m#0 | 0\nm#0 | 1\nm#0 | 2\nm#0 | 3\nm#1 | other\n"
    assert two.cli("logs", "m", "--replica", "0", "--since", "2m30s").stdout == "1\n2\n3\n"


@pytest.mark.parametrize("unit", ["10m", "0h10m", "600s"])
def test_since_a_while_ago(two: Up, unit: str) -> None:
    file = log(two)
    for number in (20, 11, 9, 1):
        write(file, f"{number}\n", minutes_ago(number))
    assert two.cli("logs", "m", "--since", unit).stdout == "9\n1\n"
    assert two.cli("logs", "m", "--since", unit, "-n", "1").stdout == "1\n"
    assert two.cli("logs", "m", "--since", "1s").stdout == ""


def test_since_a_time_here_or_in_utc(two: Up) -> None:
    file = log(two)
    for minute in (0, 1, 2, 3):
        write(file, f"{minute}\n", datetime(2026, 1, 2, 10, minute, tzinfo=UTC))
    since = {
        "2026-01-02T10:01Z": "1\n2\n3\n",
        "2026-01-02T10:01:00.001Z": "2\n3\n",
        "2026-01-02T12:02+02:00": "2\n3\n",
        "2026-01-02 15:03": "3\n",
        "2026-01-02": "0\n1\n2\n3\n",
        "2026-01-03": "",
    }
    for time_, printed in since.items():
        assert two.cli("logs", "m", "--since", time_, TZ="UTC-5").stdout == printed, time_


@pytest.mark.parametrize("text", ["", "yesterday", "10", "10x", "2026-13-01", "25:00", "999999h"])
def test_since_what_is_no_time_is_a_fault(two: Up, text: str) -> None:
    done = two.cli("logs", "m", "--since", text)
    assert done.returncode == 2
    assert "write 10m, 1h30m, 2026-11-20T10:00 or 2026-11-20T10:00Z" in " ".join(done.stderr.split())


def test_all_since_then_comes_from_all_files_and_two_hundred_lines_otherwise(two: Up) -> None:
    file = log(two, keep=50)
    for number in range(400):
        write(file, f"{number}\n", minutes_ago(400 - number))
    assert len(list((two.state_dir / "logs").iterdir())) > 10
    for path in (two.state_dir / "logs").iterdir():  # as if they had been written then
        last = datetime.fromisoformat(path.read_text().splitlines()[-1].split()[0])
        os.utime(path, (last.timestamp(), last.timestamp()))
    assert two.cli("logs", "m", "--since", "300.5m").stdout.split() == [str(number) for number in range(100, 400)]
    assert two.cli("logs", "m").stdout.split() == [str(number) for number in range(200, 400)]
    assert two.cli("logs", "m", "-n", "1000").stdout.split() == [str(number) for number in range(400)]
    for count in (0, 1, 27, 28, 29, 56, 57):
        assert two.cli("logs", "m", "-n", str(count)).stdout.split() == [str(n) for n in range(400 - count, 400)]


def test_a_long_line_that_two_files_hold_is_one_line(two: Up) -> None:
    write(log(two), "x" * 2_500 + "\nend\n")
    assert len(list((two.state_dir / "logs").iterdir())) == 3
    assert two.cli("logs", "m").stdout == "x" * 2_500 + "\nend\n"


def test_a_log_of_many_blocks_is_read_from_its_end(two: Up) -> None:
    file = Log(str(two.state_dir / "logs/m.0.log"), 10_000_000, 0)
    write(file, "".join(f"{number:0200}\n" for number in range(5_000)))
    for count in (1, 290, 291, 292, 4_999, 5_000, 6_000):
        lines = two.cli("logs", "m", "-n", str(count)).stdout.split()
        assert [int(line) for line in lines] == list(range(max(0, 5_000 - count), 5_000))


def test_a_pipe_gets_every_byte_and_a_terminal_colours_alone(two: Up) -> None:
    printed = b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jcleared\0\x07\xc2\x9b\ttab \xff \xc3\xbc\n"
    log(two).write(printed)
    argv = [sys.executable, "-m", "router", "logs", "m", "-c", str(two.file)]
    assert subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout == printed
    reader, writer = pty.openpty()
    process = subprocess.Popen(argv, stdout=writer)
    os.close(writer)
    assert process.wait(DEADLINE) == 0
    assert os.read(reader, 1000) == b"\x1b[31mred\x1b[0m cleared\ttab \xff \xc3\xbc\r\n"
    os.close(reader)


# Names


def test_an_alias_names_the_model_also_where_the_file_has_faults(two: Up) -> None:
    write(log(two), "hello\n")
    two.file.write_text(
        two.file.read_text().replace('"listen"', '"keys": [{"name": "x", "key": "${NOT_SET}"}], "listen"')
    )
    assert two.cli("check").returncode == 2
    assert two.cli("logs", "also").stdout == "hello\n"
    assert two.cli("logs", "m").stdout == "hello\n"


def test_without_a_file_the_models_are_those_with_a_log(two: Up) -> None:
    write(log(two), "hello\n")
    state = Path(os.environ["HOME"]) / ".local/state/engine-router"
    folder = two.folder / "home"
    (folder / ".local/state").mkdir(parents=True)
    (folder / ".local/state" / state.name).symlink_to(two.state_dir)
    argv = [sys.executable, "-m", "router", "logs", "m"]
    environment = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, cwd=folder, env=environment)
    assert done.stdout == b"hello\n"


def test_a_model_whose_name_begins_like_another_is_another(two: Up) -> None:
    write(log(two), "m\n")
    write(log(two, model="m.1"), "m.1\n")
    assert two.cli("logs", "m").stdout == "m\n"
    assert two.cli("logs", "m.1").stdout == "m.1\n"


@pytest.fixture
def named(up: Up) -> Up:
    """The file of a model with names of every kind, beside a group and a model elsewhere."""
    far = {"url": "http://127.0.0.1:9/v1", "aliases": {"away": None}}
    group = {"group": {"m": 3, "far": 1}, "aliases": ["both"]}
    model = fake(aliases={"nothink": {"set": {"a": 1}}}, lora={"sql": "org/sql"})
    up.write({"m": model, "far": far, "assistant": group})
    (up.state_dir / "logs").mkdir(parents=True)
    return up


@pytest.mark.parametrize("name", ["m", "nothink", "sql"])
def test_an_alias_with_changes_of_its_own_and_an_adapter_name_the_model(named: Up, name: str) -> None:
    write(log(named), "hello\n")
    assert named.cli("logs", name).stdout == "hello\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("assistant", "'assistant' is a group: name one of m, far"),
        ("both", "'both' is a group: name one of m, far"),
        ("far", "'far' runs elsewhere: it has no log here"),
        ("away", "'away' runs elsewhere: it has no log here"),
    ],
)
@pytest.mark.parametrize("more", [(), ("-f",)])
def test_what_has_no_engine_of_its_own_has_no_log(named: Up, name: str, said: str, more: tuple[str, ...]) -> None:
    done = named.cli("logs", name, *more)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"router: {said}\n")


def request(number: int, **names: str) -> str:
    return json.dumps({"time": "2026-01-02T10:00:00Z", "id": str(number), **names}, separators=(",", ":")) + "\n"


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ((), "0123456"),
        (("m",), "0126"),
        (("m", "-n", "2"), "26"),
        (("m", "--since", "2026-01-02"), "0126"),
        (("nothink",), "16"),
        (("assistant",), "24"),
        (("both",), "4"),
        (("away",), "5"),
        (("gone",), "3"),
    ],
)
def test_the_requests_to_one_model_are_those_that_name_it_or_that_it_answered(
    named: Up, arguments: tuple[str, ...], numbers: str
) -> None:
    names = [
        {"model": "m"}, {"model": "m", "asked": "nothink"}, {"model": "m", "asked": "assistant"}, {"model": "gone"},
        {"model": "far", "asked": "both"}, {"model": "far", "asked": "away"}, {"model": "far", "asked": "nothink"},
    ]  # fmt: skip
    lines = [request(number, **each) for number, each in enumerate(names)]
    (named.state_dir / "requests.log").write_text("".join(lines))
    done = named.cli("logs", "--requests", *arguments)
    assert done.stdout == "".join(lines[int(number)] for number in numbers)
    remark = "router: the file declares no model called 'gone'\n" if "gone" in arguments else ""
    assert (done.returncode, done.stderr) == (0, remark)


def test_a_request_that_comes_in_pieces_is_printed_once_it_is_whole(named: Up, follow: Callable[..., Follower]) -> None:
    file = named.state_dir / "requests.log"
    file.write_text(request(0, model="m"))
    follower = follow(named, "m", "--requests")
    until(lambda: follower.read() == request(0, model="m"))
    with file.open("a") as opened:
        for piece in (request(1, model="far") + request(2, model="m")[:50], request(2, model="m")[50:]):
            opened.write(piece)
            opened.flush()
    until(lambda: follower.read() == request(0, model="m") + request(2, model="m"))


def test_a_model_or_the_requests_have_to_be_named(two: Up) -> None:
    done = two.cli("logs")
    assert done.returncode == 2
    assert "name a MODEL, or give --requests" in done.stderr


def test_a_log_that_cannot_be_read_is_one_line(two: Up) -> None:
    (two.state_dir / "logs/m.0.log").mkdir()
    done = two.cli("logs", "m")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("router: cannot go on: [Errno 21] Is a directory")
    assert len(done.stderr.splitlines()) == 1


# Following


def test_following_interleaves_replicas_and_finds_new_ones(two: Up, follow: Callable[..., Follower]) -> None:
    one = log(two, 0)
    write(one, "first\n")
    follower = follow(two, "m")
    until(lambda: follower.read() == "first\n")
    other = log(two, 1)
    write(other, "begin")
    until(lambda: follower.read() == "first\nm#1 | begin")
    write(one, "second\n")
    until(lambda: follower.read() == "first\nm#1 | begin\nm#0 | second\n")
    write(other, " end\n")
    until(lambda: follower.read() == "first\nm#1 | begin\nm#0 | second\nm#1 |  end\n")
    assert follower.end() == 0
    assert follower.read(stderr=True) == ""


def test_following_prints_an_unfinished_line_and_then_its_rest(two: Up, follow: Callable[..., Follower]) -> None:
    file = log(two)
    write(file, "load")
    follower = follow(two, "also", "-n", "1")
    until(lambda: follower.read() == "load")
    write(file, "ed\nnext\n")
    until(lambda: follower.read() == "loaded\nnext\n")


def test_following_misses_nothing_of_a_log_that_is_rotated_all_the_time(
    two: Up, follow: Callable[..., Follower]
) -> None:
    file = log(two, keep=90)
    write(file, "begin\n")
    follower = follow(two, "m")
    until(lambda: follower.read() == "begin\n")
    for number in range(2_000):
        write(file, f"{number}\n")
    until(lambda: follower.read().endswith("\n1999\n"))
    assert follower.read().split() == ["begin", *map(str, range(2_000))]


def test_a_reader_misses_nothing_while_the_log_is_rotated_under_its_hands(tmp_path: Path) -> None:
    file = Log(str(tmp_path / "m.0.log"), 2_000, 200)
    reader = LogReader(tmp_path / "m.0.log", 0)

    def print_all() -> None:
        for number in range(10_000):
            file.write(b"%d\n" % number)

    writer = threading.Thread(target=print_all)
    writer.start()
    seen: list[int] = []
    while writer.is_alive() or not seen or seen[-1] != 9_999:
        seen += [int(line.text) for line in reader.lines()]
        assert seen == list(range(len(seen)))
    writer.join()
    reader.close()


@pytest.mark.parametrize("how", ["emptied", "deleted", "with its folder"])
def test_following_goes_on_when_somebody_makes_room(two: Up, follow: Callable[..., Follower], how: str) -> None:
    file = log(two)
    write(file, "begin\n" * 5)
    follower = follow(two, "m", "-n", "1")
    until(lambda: follower.read() == "begin\n")
    path = Path(file.path)
    if how == "emptied":
        path.write_bytes(b"")
    elif how == "deleted":
        path.unlink()
    else:
        path.unlink()
        path.parent.rmdir()
        path.parent.mkdir()
    write(log(two), "end\n")
    until(lambda: follower.read() == "begin\nend\n")


@pytest.mark.parametrize("arguments", [("m",), ("also",), ("m", "--replica", "0")])
def test_following_waits_for_the_log_of_a_model_that_is_declared(
    two: Up, follow: Callable[..., Follower], arguments: tuple[str, ...]
) -> None:
    (two.state_dir / "logs").rmdir()
    follower = follow(two, *arguments)
    until(lambda: follower.read(stderr=True).endswith("waiting for it\n"))
    (two.state_dir / "logs").mkdir()
    write(log(two), "hello\n")
    until(lambda: follower.read() == "hello\n")
    assert follower.end() == 0


def test_following_does_not_wait_for_what_will_not_come(two: Up) -> None:
    two.write({"far": {"url": "http://127.0.0.1:1/v1"}, "m": fake()})
    done = two.cli("logs", "-f", "unknown")
    assert done.returncode == 1
    assert done.stderr.startswith("router: no log of unknown in ")
    assert two.cli("logs", "m").returncode == 1


@pytest.mark.parametrize("flags", [(), ("-f",)])
def test_a_reader_that_has_enough_is_no_fault(two: Up, flags: tuple[str, ...]) -> None:
    """With -f also when nothing more comes, which would tell it that the reader has gone."""
    write(Log(str(two.state_dir / "logs/m.0.log"), 10**7, 0), "line\n" * 100_000)
    argv = [sys.executable, "-m", "router", "logs", "m", "-n", "100000", *flags, "-c", str(two.file)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"line\n"
    process.stdout.close()
    assert process.wait(DEADLINE) == 0
    assert process.stderr is not None
    with process.stderr as stderr:
        assert stderr.read() == b""


def test_the_end_of_a_followers_reader_is_noticed_in_silence(two: Up, follow: Callable[..., Follower]) -> None:
    write(log(two), "line\n")
    follower = follow(two, "m")
    until(lambda: follower.read() == "line\n")
    assert follower.process.stdout is not None
    follower.process.stdout.close()
    assert follower.process.wait(DEADLINE) == 0


def test_what_cannot_be_printed_is_one_line(two: Up) -> None:
    write(log(two), "line\n")
    argv = [sys.executable, "-m", "router", "logs", "m", "-c", str(two.file)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(argv, check=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"router: cannot go on: [Errno 28] No space left on device\n")


# Of a router that runs


def test_following_goes_on_through_a_restart(up: Up, follow: Callable[..., Follower]) -> None:
    up.ready({"m": fake("--say", "hello")})
    follower = follow(up, "m")
    until(lambda: follower.read().count("loaded\n") == 1)
    os.kill(up.row().pid or 0, signal.SIGKILL)
    until(lambda: follower.read().count("loaded\n") == 2)
    assert follower.read().count("hello\n") == 2
    assert follower.end() == 0


def test_the_requests_are_followed_as_they_are_written(up: Up, follow: Callable[..., Follower]) -> None:
    up.ready({"m": fake()})
    follower = follow(up, "--requests")
    until(lambda: follower.read(stderr=True).endswith("waiting for it\n"))
    before = datetime.now(UTC)
    with pytest.raises(HTTPError, match="404"):
        urlopen(Request(f"{up.address}/v1/embeddings", b'{"model": "x"}', {"content-type": "application/json"}))
    until(lambda: follower.read().endswith("}\n"))
    assert json.loads(follower.read())["error"] == "model_not_found"
    assert up.cli("logs", "--requests", "--since", before.isoformat()).stdout == follower.read()
    assert up.cli("logs", "--requests", "--since", datetime.now(UTC).isoformat()).stdout == ""


def test_the_routers_own_log_is_json_where_the_file_says_so(up: Up) -> None:
    up.ready({"m": fake("--exit", 3, "--once", up.folder / "once")}, log={"format": "json"})
    assert up.end() == 0
    lines = [json.loads(line) for line in up.text().splitlines()]
    states = [(line["model"], line["replica"], line["state"]) for line in lines if "state" in line]
    assert states[:4] == [("m", 0, state) for state in ("starting", "failed", "starting", "ready")]
    assert states[-1] == ("m", 0, "stopped")
    assert {line["level"] for line in lines if line.get("state") == "failed"} == {"warning"}
    assert lines[-1]["message"] == "stopped: no process of any engine is left"

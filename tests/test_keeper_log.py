"""The keeper's log, with real processes and files."""

import os
import re
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import test_keeper
from test_keeper import Run, until

make, run = test_keeper.make, test_keeper.run
LINE = 25 + 10
"""Bytes of a line of nine digits, its time included."""
PRINT_ON_SIGNAL = """
import os, signal
count = 0
def more(*_):
    global count
    for _ in range(1000):
        os.write(1, b'%099d\\n' % count)
        count += 1
    os.write(1, b'round %d\\n' % (count // 1000))
signal.signal(signal.SIGUSR1, more)
print('ready', flush=True)
while True: signal.pause()
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, and a few files."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=8", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # noqa: S607


def start_printer(run: Run, **changes: int) -> None:
    run.python(PRINT_ON_SIGNAL, **changes)
    until(lambda: run.status()["last_line"] == "ready")


def print_more(run: Run, number: int) -> None:
    """A thousand lines of 100 bytes, and another."""
    os.kill(run.reply["engine"], signal.SIGUSR1)
    until(lambda: run.status()["last_line"] == f"round {number}")


def told_lost(text: str, reason: str, printed: int) -> bool:
    """Whether the notes in the log account for every line that is not there whole."""
    lost = sum(map(int, re.findall(rf"^\[keeper\] (\d+) lines? lost: {reason}$", text, re.MULTILINE)))
    whole = len(re.findall(r"^(?:\d{99}|round \d+)$", text, re.MULTILINE))
    assert lost
    return lost + whole == printed


def test_the_log_is_bounded_by_rotation_and_loses_nothing_of_the_newest(run: Run) -> None:
    run.python("for n in range(3000): print(f'{n:09}')", log_max_bytes=8_000, log_keep=2)
    assert run.ended() == 0
    files = [run.log, *(Path(f"{run.log}.{number}") for number in (1, 2))]
    assert sorted(run.log.parent.glob("x.log*")) == sorted(files)
    assert [path.stat().st_size for path in files[1:]] == [228 * LINE, 228 * LINE]
    lines = "".join(path.read_text() for path in reversed(files)).split()[1::2]
    assert lines == [f"{number:09}" for number in range(3000 - len(lines), 3000)]


def test_without_rotated_files_the_log_begins_again(run: Run) -> None:
    run.python("for n in range(1500): print(f'{n:09}')", log_max_bytes=8_000, log_keep=0)
    assert run.ended() == 0
    assert sorted(run.log.parent.glob("x.log*")) == [run.log]
    assert run.text().split() == [f"{number:09}" for number in range(6 * 228, 1500)]


@pytest.mark.parametrize(
    ("printed", "logged"),
    [
        (r"a\nb\n", "a\nb\n"),
        (r"a\r\nb\r\n", "a\nb\n"),
        (r"10%\r20%\r30%\ndone\n", "30%\ndone\n"),
        (r"\r10%\r20%\n", "20%\n"),
        (r"50%\r    \rnext\n", "next\n"),
        (r"10%\r20%\r\nnext\n", "20%\nnext\n"),
        (r"\n\n", "\n\n"),
        (r"no line end", "no line end\n"),
        (r"10%\r20%\r", "20%\n"),
    ],
)
def test_progress_is_folded_to_the_last_state_of_its_line(run: Run, printed: str, logged: str) -> None:
    run.python(f"import os\nfor byte in b'{printed}': os.write(1, bytes([byte]))")
    assert run.ended() == 0
    assert run.text() == logged


def test_an_unfinished_line_shows_within_seconds_and_is_not_repeated(run: Run) -> None:
    run.python("print('loading', end='', flush=True); import signal; signal.pause()", grace=0)
    until(lambda: run.text() == "loading")
    assert run.status()["last_line"] == "loading"
    assert run.wire().ask("tail") == {"tail": "loading"}
    run.stop()
    assert run.text() == "loading\n"


def test_progress_shows_while_it_goes_on_each_state_on_a_line_of_its_own(run: Run) -> None:
    code = "import time\nfor n in range(10000): print(f'{n}%', end='\\r', flush=True); time.sleep(.01)"
    run.python(code, grace=0)
    lines = until(lambda: text if len(text := run.text().split("\n")) == 3 else [])
    assert [line[-1:] for line in lines[:2]] == ["%", "%"]
    assert 50 < int(lines[1][:-1]) - int(lines[0][:-1]) < 110  # about a second apart


def test_last_line_and_tail_are_bounded_and_survive_bytes_that_are_no_text(run: Run) -> None:
    run.python(
        "import os, signal\nos.write(1, b'x' * 100000 + b'\\n' + b'\\xff' * 3000 + b'\\n \\n')\nsignal.pause()", grace=0
    )
    wire = run.wire()
    until(lambda: wire.ask("status")["last_line"] == "\ufffd" * 500)
    tail = wire.ask("tail")["tail"]
    assert len(tail) == 8192
    assert tail.endswith("x\n" + "\ufffd" * 3000 + "\n \n")


def test_each_line_begins_with_its_time_in_utc(run: Run) -> None:
    run.python("for n in range(5): print(n)\nprint()\nprint('end', end='')")
    assert run.ended() == 0
    lines = run.log.read_text().splitlines()
    assert [line[25:] for line in lines] == ["0", "1", "2", "3", "4", "", "end"]
    times = [datetime.strptime(line[:25], "%Y-%m-%dT%H:%M:%S.%fZ ").replace(tzinfo=UTC) for line in lines]
    assert times == sorted(times)
    now = datetime.now(UTC)
    assert all(now - timedelta(seconds=test_keeper.DEADLINE) < each <= now for each in times)


def test_the_rest_of_an_unfinished_line_gets_no_time(run: Run) -> None:
    run.python(
        "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: print('ed', flush=True))\n"
        "print('load', end='', flush=True)\nwhile True: signal.pause()"
    )
    until(lambda: run.text() == "load")
    os.kill(run.reply["engine"], signal.SIGUSR1)
    until(lambda: run.text() == "loaded\n")
    assert re.fullmatch(test_keeper.STAMP + "loaded\n", run.log.read_text())


def test_what_is_told_of_the_log_is_plain_text(run: Run) -> None:
    printed = "\\x1b[32mINFO\\x1b[0m \\x1b]0;title\\x07\\x1b[2Ka\\0b\\x1bc\\u009b1m\\tü\\n"
    run.start(["python3", "-c", f"import signal; print('{printed}', end='', flush=True); signal.pause()"], grace=0)
    until(lambda: run.status()["last_line"] == "INFO abc1m\tü")
    assert run.wire().ask("tail") == {"tail": "INFO abc1m\tü\n"}


def test_a_line_without_end_is_broken_and_costs_neither_memory_nor_disk(run: Run) -> None:
    code = "import os\nfor n in range(1600): os.write(1, bytes([0, 27, 91, 255, 65 + n % 20]) * 13107)"
    run.python(code + "\nimport signal; print('end', flush=True); signal.pause()", grace=0)
    until(lambda: run.status()["last_line"].endswith("end"), 60)
    status = Path(f"/proc/{run.process.pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 16 * 1024
    files = list(run.log.parent.glob("x.log*"))
    assert len(files) == 3
    assert all(path.stat().st_size <= 1_000_000 for path in files)
    assert max(len(line) for path in files for line in path.read_bytes().splitlines()) < 200_000


def test_lines_without_text_cost_no_memory(run: Run) -> None:
    run.python(
        "import os, signal\nfor n in range(20): os.write(1, b'\\n' * 65536)\nprint('end', flush=True)\nsignal.pause()",
        grace=0,
    )
    until(lambda: run.status()["last_line"] == "end", 60)
    status = Path(f"/proc/{run.process.pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 24 * 1024


def test_a_limit_on_files_drops_lines_counts_them_and_ends_nobody(run: Run) -> None:
    start_printer(run)
    keeper = run.reply["keeper"]
    resource.prlimit(keeper, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    print_more(run, 1)
    assert run.log.stat().st_size == 4096
    assert len(run.wire().ask("tail")["tail"]) == 8192
    resource.prlimit(keeper, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print_more(run, 2)
    assert told_lost(run.text(), "File too large", 2002)


def test_a_full_disk_drops_lines_counts_them_and_ends_nobody(run: Run, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(32 * 1024))
    run.log = small_disk / "x.log"
    start_printer(run)
    for number in (1, 2, 3):
        print_more(run, number)
    assert run.status()["state"] == "running"
    assert "lost" not in run.text()
    (small_disk / "other").unlink()
    os.kill(run.reply["engine"], signal.SIGUSR1)
    note = r"^\[keeper\] \d+ lines lost: No space left on device$"
    until(lambda: re.search(note, run.text(), re.MULTILINE))
    assert run.stop() == {"exit": -15, "killed": 0, "left": []}


def test_an_engine_starts_on_a_full_disk(run: Run, small_disk: Path) -> None:
    run.log = small_disk / "x.log"
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "other").write_bytes(bytes(100 * 1024))
    start_printer(run)
    print_more(run, 1)
    (small_disk / "other").unlink()
    run.stop()
    assert told_lost(run.text(), "No space left on device", 1002)


def test_an_engine_starts_where_not_even_its_log_can_be_made(run: Run, small_disk: Path) -> None:
    run.log = small_disk / "x.log"
    for number in range(7):  # and the folder itself
        (small_disk / str(number)).touch()
    start_printer(run)
    print_more(run, 1)
    assert not run.log.exists()
    (small_disk / "0").unlink()
    run.stop()
    assert told_lost(run.text(), "No space left on device", 1002)


def test_a_log_that_was_deleted_to_make_room_is_made_anew(run: Run, small_disk: Path) -> None:
    run.log = small_disk / "x.log"
    start_printer(run)
    print_more(run, 1)
    run.log.unlink()
    print_more(run, 2)
    assert re.match(r"\[keeper\] \d+ lines lost: No space left on device\n", run.text())


def test_a_log_that_was_deleted_is_made_anew(run: Run) -> None:
    start_printer(run, log_max_bytes=10**9)  # else it would be made anew by its rotation
    run.log.unlink()

    def logged() -> str:
        os.kill(run.reply["engine"], signal.SIGUSR1)
        return run.text()

    until(logged)


def test_a_log_whose_keeper_was_killed_in_a_line_goes_on_in_the_next(make: Callable[[], Run]) -> None:
    run = make()
    run.log.write_text("2026-11-20T10:00:00.000Z half a li")
    run.start(["echo", "next"])
    assert run.ended() == 0
    assert run.text() == "half a li\nnext\n"


def test_the_keepers_of_two_runs_may_write_one_log(make: Callable[[], Run]) -> None:
    code = "import sys\nfor n in range(5000): print(n, flush=n % 10 == 0)"
    runs = [make(), make()]
    runs[1].socket = runs[1].socket.with_name("y.sock")
    for run in runs:
        run.python(code, log_max_bytes=20_000, log_keep=90)
    for run in runs:
        assert run.ended() == 0
    files = runs[0].log.parent.glob("x.log*")
    logged = sorted(int(line[25:]) for path in files for line in path.read_text().splitlines())
    assert logged == sorted([*range(5000), *range(5000)])

"""The requests' log: whole lines, rotated, and nobody waits for a slow disk."""

import logging
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from anyio.lowlevel import checkpoint

from router.console.requests_log import MOST, RequestsLog
from router.measures import Record

pytestmark = pytest.mark.anyio


def record(number: int) -> Record:
    return Record(
        time=datetime.now(UTC),
        id=str(number),
        method="POST",
        path="/v1/chat/completions",
        status=200,
        queue_ms=0.0,
        total_ms=1.5,
        own_ms=0.1,
    )


def listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def ids(*files: Path) -> list[int]:
    return [int(msgspec.json.decode(line)["id"]) for file in files for line in file.read_bytes().splitlines()]


async def test_every_record_is_a_line_in_order_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "requests.log"
    log = RequestsLog(file, max_size=1 << 20, keep=3)
    for number in range(1_000):
        log.add([record(number)])
    await log.close()
    assert ids(file) == list(range(1_000))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("keep", [0, 2])
async def test_it_is_rotated_by_size(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "requests.log"
    log = RequestsLog(file, max_size=5_000, keep=keep)
    for number in range(100):
        log.add([record(number)])
        await log.close()
    files = [file, *(tmp_path / f"requests.log.{number}" for number in range(1, keep + 1))]
    assert listed(tmp_path) == files
    kept = ids(*reversed(files))
    assert kept == list(range(100 - len(kept), 100))
    assert all(each.stat().st_size <= 5_000 for each in files)


async def test_a_file_that_cannot_be_written_is_told_once_and_costs_no_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "gone" / "requests.log"
    log = RequestsLog(file, max_size=1 << 20, keep=3)
    with caplog.at_level(logging.WARNING, "router"):
        for number in range(MOST + 10):
            log.add([record(number)])
        await log.close()
        log.add([record(0)])
        await log.close()
        late, failing = caplog.messages
        assert "some are left out" in late
        assert "cannot be logged" in failing
        file.parent.mkdir()
        log.add([record(1)])
        await log.close()
    assert ids(file) == [1]
    assert caplog.messages[2] == "requests are logged again"
    assert caplog.messages[3] == f"{MOST + 11} requests were not logged"


async def test_what_a_client_wrote_stays_in_its_line(tmp_path: Path) -> None:
    file = tmp_path / "requests.log"
    log = RequestsLog(file, max_size=1 << 20, keep=3)
    wild = 'a\n{"id":"evil"}\r\n\u2028\x00\x1b[31m"\\ü'
    log.add([record(1), msgspec.structs.replace(record(2), id=wild, asked=wild), record(3)])
    await log.close()
    lines = file.read_bytes().split(b"\n")
    assert [msgspec.json.decode(line)["id"] for line in lines[:-1]] == ["1", wild, "3"]
    assert lines[-1] == b""
    assert b"\x1b" not in file.read_bytes()
    assert b"\x00" not in file.read_bytes()


async def test_many_at_once_are_written_in_order_while_more_come(tmp_path: Path) -> None:
    file = tmp_path / "requests.log"
    log = RequestsLog(file, max_size=1 << 20, keep=3)
    for start in range(0, 5_000, 250):
        log.add([record(number) for number in range(start, start + 250)])
        await checkpoint()
    await log.close()
    await log.close()
    assert ids(file) == list(range(5_000))


async def test_half_a_line_of_a_router_that_was_killed_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "requests.log"
    file.write_bytes(b'{"time":"2026-11-20T16:15:40Z","id":"ha')
    log = RequestsLog(file, max_size=1 << 20, keep=3)
    log.add([record(1)])
    log.add([record(2)])
    await log.close()
    half, *lines = file.read_bytes().splitlines()
    assert half.endswith(b"ha")
    assert [msgspec.json.decode(line)["id"] for line in lines] == ["1", "2"]


async def test_more_at_once_than_a_file_may_hold_moves_no_empty_file_away(tmp_path: Path) -> None:
    file = tmp_path / "requests.log"
    file.touch()
    log = RequestsLog(file, max_size=1_000, keep=3)
    log.add([record(number) for number in range(100)])
    await log.close()
    assert listed(tmp_path) == [file]
    assert ids(file) == list(range(100))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)  # noqa: S607


async def test_a_full_disk_is_told_once_leaves_whole_lines_and_is_forgotten_once_there_is_room(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (small_disk / "other").write_bytes(bytes(32 * 1024))
    file = small_disk / "requests.log"
    log = RequestsLog(file, max_size=1 << 20, keep=3)
    kept: list[int] = []
    with caplog.at_level(logging.WARNING, "router"):
        while not caplog.messages:
            kept = ids(file) if file.exists() else []
            log.add([record(number) for number in range(len(kept), len(kept) + 50)])
            await log.close()
        for _ in range(3):
            log.add([record(-1)] * 50)
            await log.close()
        assert ids(file) == kept == list(range(len(kept)))
        assert kept
        (message,) = caplog.messages
        assert message.endswith("No space left on device")
        (small_disk / "other").unlink()
        log.add([record(len(kept))])
        await log.close()
    assert ids(file) == [*kept, len(kept)]
    assert caplog.messages[1:] == ["requests are logged again", "200 requests were not logged"]


def test_a_limit_on_files_is_no_more_than_that(tmp_path: Path) -> None:
    """In a process of its own: the limit holds for all files that one writes."""
    code = (
        "import asyncio, resource, sys\n"
        "from pathlib import Path\n"
        "from test_requests_log import RequestsLog, record, ids\n"
        "async def main():\n"
        "    file = Path(sys.argv[1])\n"
        "    log = RequestsLog(file, max_size=1 << 20, keep=3)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "    for number in range(200):\n"
        "        log.add([record(number)])\n"
        "        await log.close()\n"
        "    kept = ids(file)\n"
        "    assert 0 < len(kept) < 200 and kept == list(range(len(kept))), kept\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "requests.log"],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={"PYTHONPATH": f"{Path(__file__).parents[1]}"},
    )
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("requests cannot be logged to ")
    assert line.endswith(": [Errno 27] File too large")

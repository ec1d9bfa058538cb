"""The requests' log: whole lines, rotated, and nobody waits for a slow disk."""

import logging
import stat
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

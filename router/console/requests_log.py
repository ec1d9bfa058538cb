"""The requests' log: a line of JSON for each request to the data plane, in a file that is rotated by size."""

import asyncio
import logging
import os
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

import msgspec

from router.measures import Record

MOST = 20_000
"""Records that may wait for a slow disk; those that come then are dropped, and counted."""

PATIENCE = 5.0
"""Seconds for a disk to take the last of them."""

log = logging.getLogger("router")
_encode = msgspec.json.Encoder().encode_lines


class RequestsLog:
    """Takes records on the loop, and writes them in a thread, so that a slow disk holds nobody up."""

    def __init__(self, file: Path, *, max_size: int, keep: int) -> None:
        self._file, self.max_size, self.keep = file, max_size, keep
        self._records: list[Record] = []
        self._writing: asyncio.Future[None] | None = None
        self._batch = self._dropped = 0
        self._failing = False

    def add(self, records: list[Record]) -> None:
        room = max(0, MOST - len(self._records))
        self._records += records[:room]
        if records[room:]:
            if not self._dropped:
                log.warning("requests come faster than they can be logged to %s; some are left out", self._file)
            self._dropped += len(records[room:])
        self._write_on()

    async def close(self) -> None:
        """Once all is written, or cannot be."""
        while self._writing is not None:
            done, _ = await asyncio.wait((self._writing,), timeout=PATIENCE)
            if not done:
                log.warning("the last requests are not logged: %s takes too long", self._file)
                return

    def _write_on(self) -> None:
        if self._writing is not None or not self._records:
            return
        records, self._records = self._records, []
        self._batch = len(records)
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, self._write, records)
        self._writing.add_done_callback(self._written)

    def _write(self, records: list[Record]) -> None:
        lines = _encode(records)
        with suppress(FileNotFoundError):
            size = self._file.stat().st_size
            if size and size + len(lines) > self.max_size:
                self._rotate()
        handle = os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _append(handle, lines)
        finally:
            os.close(handle)

    def _rotate(self) -> None:
        if self.keep:
            RotatingFileHandler(self._file, backupCount=self.keep, delay=True).doRollover()
        else:
            self._file.unlink()

    def _written(self, writing: "asyncio.Future[None]") -> None:
        self._writing = None
        error = writing.exception()
        self._dropped += self._batch if error is not None else 0
        if error is not None and not self._failing:
            log.warning("requests cannot be logged to %s: %s", self._file, error)
        elif error is None and self._failing:
            log.warning("requests are logged again")
        self._failing = error is not None
        if error is None and self._dropped and not self._records:
            log.warning("%d requests were not logged", self._dropped, extra={"lost": self._dropped})
            self._dropped = 0
        self._write_on()


def _append(handle: int, lines: bytes) -> None:
    """All of them or, as far as the disk lets it, none: a part of a line would spoil the next one. Raises OSError."""
    size = os.fstat(handle).st_size
    torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"  # by the end of an earlier router
    data = b"\n" + lines if torn else lines
    try:
        while data:
            data = data[os.write(handle, data) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, size)
        raise

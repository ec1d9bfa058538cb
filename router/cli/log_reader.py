"""Reads one log as it grows, through its rotation."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

STAMP = re.compile(rb'(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z )|\{"time":"([^"]+)"')
"""The time in front of a line of an engine's log (see `fleet/keeper_log.py`), and in a line of the requests' log. The
times of either kind are in the order of their text."""
STAMP_SIZE = 25
BLOCK = 2**16


class Line(NamedTuple):
    """A line, or a piece of one that came in pieces; `text` has the line's end if it has come.

    `order` never falls from one line of a log to the next, and is empty until the first line that has a time. `stamp`
    is what stands in front of the text, and empty for a piece that `begins` no line."""

    order: bytes
    replica: int
    stamp: bytes
    text: bytes
    begins: bool


class LogReader:
    """The log of one replica, from its oldest line that is left, unless some are skipped first. The file need not
    exist yet."""

    def __init__(self, file: Path, replica: int) -> None:
        self._file, self._replica = file, replica
        self._unread = _open(file)  # the oldest first; the last one is the file that is, or was, written to
        self._order = self._torn = b""
        self._begins = True

    def skip_to_last(self, count: int) -> None:
        """Leaves at least the last `count` lines."""
        for index, file in reversed(list(enumerate(self._unread))):
            count, start = _find_last(file, count)
            file.seek(start)
            if start:
                self._forget(index)
                return

    def skip_before(self, time: float) -> None:
        """Leaves at least what was written from `time` on, in seconds since 1970."""
        older = [file for file in self._unread[:-1] if os.fstat(file.fileno()).st_mtime < time - 1]
        self._forget(len(older))

    def lines(self) -> Iterator[Line]:
        """What has come since the last call, which has been read to its end."""
        yield from self._rest()
        if self._find_newer():
            yield from self._rest()

    def close(self) -> None:
        self._forget(len(self._unread))

    def _forget(self, count: int) -> None:
        for file in self._unread[:count]:
            file.close()
        del self._unread[:count]

    def _rest(self) -> Iterator[Line]:
        while self._unread:
            file = self._unread[0]
            if file.tell() > os.fstat(file.fileno()).st_size:  # somebody has emptied it
                file.seek(0)
            for piece in file:
                if line := self._line(piece):
                    yield line
            if len(self._unread) == 1:
                return
            self._forget(1)

    def _line(self, piece: bytes) -> Line | None:
        piece, self._torn = self._torn + piece, b""
        if self._begins and len(piece) <= STAMP_SIZE and not piece.endswith(b"\n"):
            self._torn = piece  # perhaps in the middle of its time
            return None
        match = STAMP.match(piece) if self._begins else None
        stamp, time = match.groups(b"") if match else (b"", b"")
        self._order = max(self._order, stamp or time)
        line = Line(self._order, self._replica, stamp, piece[len(stamp) :], self._begins)
        self._begins = piece.endswith(b"\n")
        return line

    def _find_newer(self) -> bool:
        """Takes in the files that followed the one read last."""
        if self._unread and _is(self._file, self._unread[-1]):
            return False
        files = _open(self._file)
        last = self._unread[-1] if self._unread else None
        known = next((index for index, file in enumerate(files) if last and _same(file, last)), -1)
        for file in files[: known + 1]:
            file.close()
        self._unread += files[known + 1 :]
        return known + 1 < len(files)


def _open(file: Path) -> list[BinaryIO]:
    """The log and its rotated files, the oldest first, as they were at one moment: where two looks find the same file
    at each path, none went from one to another between them."""
    while True:
        before = _look(file)
        opened: list[BinaryIO] = []
        with suppress(FileNotFoundError):  # rotated away just now
            for path in before:
                opened.append(path.open("rb"))  # noqa: PERF401 - the other way loses those that are open
        if list(before.values()) == [_identity(os.fstat(each.fileno())) for each in opened] and before == _look(file):
            return opened
        for each in opened:
            each.close()


def _look(file: Path) -> dict[Path, tuple[int, int]]:
    """What is where, the oldest first."""
    numbered = [path for path in file.parent.glob(f"{file.name}.*") if path.suffix[1:].isdecimal()]
    found: dict[Path, tuple[int, int]] = {}
    for path in (*sorted(numbered, key=lambda path: int(path.suffix[1:]), reverse=True), file):
        with suppress(FileNotFoundError):
            found[path] = _identity(path.stat())
    return found


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is(path: Path, opened: BinaryIO) -> bool:
    try:
        return _identity(path.stat()) == _identity(os.fstat(opened.fileno()))
    except FileNotFoundError:
        return False


def _same(one: BinaryIO, other: BinaryIO) -> bool:
    return _identity(os.fstat(one.fileno())) == _identity(os.fstat(other.fileno()))


def _find_last(file: BinaryIO, count: int) -> tuple[int, int]:
    """(how many of the last `count` lines are still to be found in older files, where those here begin: at 0 if all of
    the file is among them). A line without its end is one more."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - BLOCK)
        file.seek(start)
        block = file.read(end - start)
        ends = block.count(b"\n")
        if ends > count:
            return 0, start + _find_end(block, count + 1) + 1
        count, end = count - ends, start
    return count, 0


def _find_end(block: bytes, number: int) -> int:
    """Where the line's end stands that is the `number`th from the last."""
    at = len(block)
    for _ in range(number):
        at = block.rfind(b"\n", 0, at)
    return at

"""What an engine prints: the rotated file, and the folding of progress lines. Standard library only."""

import errno
import os
import re
import time
from contextlib import suppress

LONGEST_LINE = 65536  # bytes of an unfinished line; a longer one is broken
TAIL = 8192  # bytes of output remembered
NEVER = float("inf")
PROGRESS_EVERY = 1.0  # seconds between two writes of an unfinished line
FULL = (errno.ENOSPC, errno.EDQUOT)
UNPRINTED = re.compile(  # colours, titles and other orders to a terminal, and what else has no picture
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


class Clock:
    """The time as each line of a log begins: `2026-11-20T10:00:00.123Z `, in UTC."""

    def __init__(self) -> None:
        self.second = -1
        self.words = ""  # of that second: putting one into words costs more than all the rest

    def stamp(self) -> bytes:
        second, millisecond = divmod(time.time_ns() // 1_000_000, 1000)
        if second != self.second:
            self.second, self.words = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self.words}.{millisecond:03}Z ".encode()


class Log:
    """A file rotated by size: path, path.1 … path.<keep>; every line begins with its time (see `Clock`). What cannot be
    written, on a full disk say, is dropped, and the lines are counted; how many, and why, stands in the log once it
    can be written again.

    Raises OSError where the file cannot be made, unless the disk is full."""

    def __init__(self, path: str, max_bytes: int, keep: int) -> None:
        self.path, self.max_bytes, self.keep = path, max(1, max_bytes), max(0, keep)
        self.clock = Clock()
        self.fd = -1
        self.size = 0
        self.looked = 0  # the second of the last look whether the file is still at its path
        self.lost = 0  # whole lines
        self.reason = ""  # why the last ones were
        self.line_start = True
        try:
            self._open()
        except OSError as error:
            if error.errno not in FULL:
                raise
        if not self.line_start:  # its last keeper was killed in the middle of a line
            self.write(b"\n")

    def write(self, data: bytes) -> None:
        """Never raises OSError, never writes more than max_bytes into one file, breaks at a line's end where it can."""
        try:
            self._look()
            if self.reason:
                self._tell_loss()
            data = self._stamped(data)
            while data:
                data = data[self._put_some(data) :]
        except OSError as error:
            self.lost += data.count(b"\n")
            self.reason = error.strerror or type(error).__name__
            self._close()  # it is opened anew: if somebody has deleted it to make room, the room is there at last

    def note(self, text: str) -> None:
        """A line of the keeper's own."""
        self.write(self._as_note(text))

    def _look(self) -> None:
        """Once a second: somebody may have deleted the file, or the keeper of another run of this replica rotated it.
        Raises OSError."""
        second = time.time_ns() // 1_000_000_000
        if self.fd >= 0 and second == self.looked:
            return
        self.looked = second
        if not self._is_there():
            self._close()
            self._open()

    def _is_there(self) -> bool:
        """Whether the open file is the one at the path; then its size is known again."""
        if self.fd < 0:
            return False
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return False
        self.size = found.st_size
        return os.path.samestat(found, os.fstat(self.fd))

    def _tell_loss(self) -> None:
        lost = max(1, self.lost)
        words = f"{lost} line{'s' if lost > 1 else ''} lost: {self.reason}"
        note = self._stamped(self._as_note(words))
        while note:
            note = note[self._put_some(note) :]
        self.lost, self.reason = 0, ""

    def _as_note(self, text: str) -> bytes:
        return f"{'' if self.line_start else chr(10)}[keeper] {text}\n".encode(errors="replace")

    def _stamped(self, data: bytes) -> bytes:
        """`data` with the time in front of each line that begins in it."""
        stamp = self.clock.stamp()
        lines = data.removesuffix(b"\n")
        text = lines.replace(b"\n", b"\n" + stamp) + data[len(lines) :]
        return stamp + text if data and self.line_start else text

    def _put_some(self, data: bytes) -> int:
        """Writes the beginning of `data` to the file with room for it; how many bytes. Raises OSError."""
        room = self.max_bytes - self.size
        cut = len(data) if len(data) <= room else data.rfind(b"\n", 0, max(0, room)) + 1
        if cut == 0 and self.size:
            self._rotate()
            return 0
        written = os.write(self.fd, data[: cut or room])
        self.size += written
        self.line_start = data[:written].endswith(b"\n")
        return written

    def _open(self) -> None:
        self.fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.fd).st_size
        self.line_start = self.size == 0 or os.pread(self.fd, 1, self.size - 1) == b"\n"

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):  # a network's file system tells of a full disk here; the descriptor is gone even so
                os.close(fd)

    def _rotate(self) -> None:
        there = self._is_there()
        self._close()
        if there:
            self._move()
        self._open()

    def _move(self) -> None:
        names = [self.path, *(f"{self.path}.{number}" for number in range(1, self.keep + 1))]
        for older, newer in reversed(list(zip(names[1:], names[:-1], strict=True))):
            with suppress(FileNotFoundError):
                os.replace(newer, older)
        if self.keep == 0:
            with suppress(FileNotFoundError):
                os.unlink(self.path)


class Output:
    """What the engine prints, on its way to the log. `\\r` folds a line: only its last state is written, and while
    it is unfinished one state a second, each on a line of its own."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.line = b""  # the last state of the unfinished line, with one \r if the next byte replaces it
        self.sent = 0  # how many bytes of that state are in the log
        self.flush_at = NEVER
        self.written = b""  # the last bytes written, at most TAIL
        self.last = b""  # the last ended line that was not blank

    def feed(self, data: bytes, now: float) -> None:
        """Takes bytes as they come."""
        *ended, line = (self.line + data).split(b"\n")
        out = [self._end(each) for each in ended]
        gap, state = self._fold(line)
        out.append(gap)
        self.line = state + line[-1:] if line.endswith(b"\r") else state
        if len(state) > LONGEST_LINE:
            out.append(self._end(line))
            self.line = b""
        self._write(b"".join(out))
        if self.flush_at == NEVER and self._unsent():
            self.flush_at = now + PROGRESS_EVERY

    def flush(self) -> None:
        """Writes what is new of the unfinished line."""
        new = self._unsent()
        self.sent += len(new)
        self.flush_at = NEVER
        self._write(new)

    def close(self) -> None:
        """Ends the line that nothing will follow."""
        if self.line:
            self._write(self._end(self.line))
            self.line = b""
        self.log.write(b"")  # what was lost is told now or never

    def tail(self) -> str:
        """The end of the output, at most TAIL bytes, as plain text: without times, and without colours."""
        return plain((self.written + self._unsent())[-TAIL:])

    def last_line(self) -> str:
        """The last line that is not blank, at most 500 characters, as plain text."""
        state = self.line.rstrip(b"\r")
        return plain((state if state.strip() else self.last)[:2000]).strip()[:500]

    def _unsent(self) -> bytes:
        return self.line.rstrip(b"\r")[self.sent :]

    def _end(self, line: bytes) -> bytes:
        """The bytes still to be written for a line that has ended."""
        gap, state = self._fold(line)
        out = gap + state[self.sent :] + b"\n"
        self.sent = 0
        self.last = state if state.strip() else self.last
        return out

    def _fold(self, line: bytes) -> tuple[bytes, bytes]:
        """(a line break if a state already written is replaced, the last state)."""
        text = line.rstrip(b"\r")
        cut = text.rfind(b"\r") + 1
        gap = b"\n" if cut and self.sent else b""
        self.sent = 0 if cut else self.sent
        return gap, text[cut:]

    def _write(self, data: bytes) -> None:
        if data:
            self.written = (self.written + data)[-TAIL:]
            self.log.write(data)


def plain(data: bytes) -> str:
    """What a terminal would show of it, in one colour."""
    return UNPRINTED.sub("", data.decode(errors="replace"))

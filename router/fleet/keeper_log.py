"""What an engine prints: the rotated file, and the folding of progress lines. Standard library only."""

import os
from contextlib import suppress

LONGEST_LINE = 65536  # bytes of an unfinished line; a longer one is broken
TAIL = 8192  # bytes of output remembered
NEVER = float("inf")
PROGRESS_EVERY = 1.0  # seconds between two writes of an unfinished line


class Log:
    """A file rotated by size: path, path.1 … path.<keep>. A failed write drops the bytes, counts them, and says so
    once it can."""

    def __init__(self, path: str, max_bytes: int, keep: int) -> None:
        self.path, self.max_bytes, self.keep = path, max(1, max_bytes), max(0, keep)
        self.fd = -1
        self.size = 0
        self.dropped = 0
        self.line_start = True
        self._open()

    def write(self, data: bytes) -> None:
        """Never raises OSError, never writes more than max_bytes into one file, breaks at a line's end where it can."""
        try:
            if self.dropped:
                self._put(self._as_note(f"{self.dropped} bytes of output could not be written"))
                self.dropped = 0
            while data:
                data = data[self._put_some(data) :]
        except OSError:
            self.dropped += len(data)

    def note(self, text: str) -> None:
        """A line of the keeper's own."""
        self.write(self._as_note(text))

    def _as_note(self, text: str) -> bytes:
        return f"{'' if self.line_start else chr(10)}[keeper] {text}\n".encode(errors="replace")

    def _put(self, data: bytes) -> None:
        while data:
            data = data[self._put_some(data) :]

    def _put_some(self, data: bytes) -> int:
        """Writes the beginning of `data` to the file with room for it; how many bytes. Raises OSError."""
        if self.fd < 0:
            self._open()
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
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.fd).st_size

    def _rotate(self) -> None:
        os.close(self.fd)
        self.fd = -1
        names = [self.path, *(f"{self.path}.{number}" for number in range(1, self.keep + 1))]
        for older, newer in reversed(list(zip(names[1:], names[:-1], strict=True))):
            with suppress(FileNotFoundError):
                os.replace(newer, older)
        if self.keep == 0:
            os.unlink(self.path)
        self._open()


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

    def tail(self) -> str:
        """The end of the output, at most TAIL bytes."""
        return (self.written + self._unsent())[-TAIL:].decode(errors="replace")

    def last_line(self) -> str:
        """The last line that is not blank, at most 500 characters."""
        state = self.line.rstrip(b"\r")
        return (state if state.strip() else self.last)[:2000].decode(errors="replace").strip()[:500]

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

"""Server-sent events on their way to the client: whole ones, with the public name in place of the engine's."""

from router.proxy.body import find_model
from router.proxy.rename import PARENTS, quoted, rename

MAX_EVENT = 1 << 20
"""Bytes of one event that are held back until it is whole; a longer one goes on in pieces."""


class Events:
    """Server-sent events in whole, so that a stream that breaks off can still end with an event of its own.

    `name` is the public name to show, None when the engine's is the same.
    """

    __slots__ = ("_held", "_name", "_prefix", "_renamed_prefix", "named", "torn")

    def __init__(self, name: str | None) -> None:
        self._held = bytearray()
        self._name = name
        self._prefix = self._renamed_prefix = b""
        self.torn = False
        """Whether the last event that was given out lacks its end."""
        self.named = False
        """Whether the stream's events have names."""

    def feed(self, data: bytes) -> bytes:
        """The events that are whole with `data`, as the engine sent them; b"" when none is."""
        if not self._held and data.endswith(b"\n\n"):  # as it nearly always is
            self.torn = False
            prefix = self._prefix
            if prefix and data.startswith(prefix) and data.rfind(b'"model"', len(prefix)) < 0:
                return self._renamed_prefix + data[len(prefix) :]
            self.named = self.named or data.startswith(b"event:")
            return data if self._name is None else self._renamed(data)
        known = len(self._held)
        self._held += data
        end = _end_of_events(self._held, max(0, known - 3))
        if not end and len(self._held) < MAX_EVENT:
            return b""
        self.torn = not end
        end = end or len(self._held)
        events = bytes(self._held[:end])
        del self._held[:end]
        self.named = self.named or events.startswith(b"event:")
        return self._renamed(events)

    def rest(self) -> bytes:
        """What the engine sent after the last whole event, at the end of its stream."""
        return self._renamed(bytes(self._held))

    def _renamed(self, events: bytes) -> bytes:
        if self._name is None or b'"model"' not in events:
            return events
        return b"\n\n".join([self._renamed_event(event, self._name) for event in events.split(b"\n\n")])

    def _renamed_event(self, event: bytes, name: str) -> bytes:
        """The events of a stream mostly begin alike, up to and with `model`, so what was found once holds again, unless
        there is more of it."""
        prefix = self._prefix
        if prefix and event.startswith(prefix) and event.find(b'"model"', len(prefix)) < 0:
            return self._renamed_prefix + event[len(prefix) :]
        if event.startswith(b"data:") and b"\n" not in event:  # one line
            spans = list(find_model(event[5:], PARENTS))
            if len(spans) == 1:
                start, end = spans[0][0] + 5, spans[0][1] + 5
                self._prefix = event[:end]
                self._renamed_prefix = event[:start] + quoted(name)
                return self._renamed_prefix + event[end:]
        return b"\n".join([_renamed_line(line, name) for line in event.split(b"\n")])


def _renamed_line(line: bytes, name: str) -> bytes:
    return b"data:" + rename(line[5:], name) if line.startswith(b"data:") else line


def _end_of_events(data: bytearray, start: int) -> int:
    """Behind the last blank line that ends after `start`, 0 if there is none. A line ends in LF, CRLF or CR."""
    ends = ((b"\n\n", 2), (b"\n\r\n", 3), (b"\r\r", 2))
    return max(data.rfind(blank, start) + size if data.rfind(blank, start) >= 0 else 0 for blank, size in ends)

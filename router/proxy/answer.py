"""An answer on its way to the client: whole events of a stream, and the public name in place of the engine's."""

import msgspec

from router.errors import InvalidRequest
from router.proxy.body import find_model, has_model, place_model

MAX_EVENT = 1 << 20
"""Bytes of one event that are held back until it is whole; a longer one goes on in pieces."""
PARENTS = (b"message", b"response")
"""Where Anthropic's and OpenAI's events keep a `model` that is not at the top."""


def rename(event: bytes, name: str) -> bytes:
    """`event`, a JSON document, with `name` wherever it says `model`."""
    for start, end in reversed(list(find_model(event, PARENTS))):
        event = b"%b%b%b" % (event[:start], _quoted(name), event[end:])
    return event


def rename_early(start: bytes, name: str) -> bytes | None:
    """The beginning of a JSON document with `name` as its `model`; None if that has not come yet."""
    span = next(find_model(start), None) if b'"model"' in start else None
    return None if span is None else b"%b%b%b" % (start[: span[0]], _quoted(name), start[span[1] :])


def rename_whole(document: bytes, name: str) -> bytes:
    """A whole JSON document with `name` as its `model`; as it is if it has none, or is no JSON."""
    try:
        if not has_model(document):
            return document
        start, end = place_model(document)
    except (InvalidRequest, msgspec.DecodeError):
        return document
    return b"%b%b%b" % (document[:start], _quoted(name), document[end:])


_quoted = msgspec.json.encode


class Events:
    """Server-sent events in whole, so that a stream that breaks off can still end with an event of its own.

    `name` is the public name to show, None when the engine's is the same.
    """

    __slots__ = ("_held", "_name", "named", "torn")

    def __init__(self, name: str | None) -> None:
        self._held = bytearray()
        self._name = name
        self.torn = False
        """Whether the last event that was given out lacks its end."""
        self.named = False
        """Whether the stream's events have names."""

    def feed(self, data: bytes) -> bytes:
        """The events that are whole with `data`, as the engine sent them; b"" when none is."""
        if not self._held and data.endswith(b"\n\n"):  # as it nearly always is
            self.torn = False
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
        name = self._name
        if name is None or b'"model"' not in events:
            return events
        return b"\n".join([_renamed_line(line, name) for line in events.split(b"\n")])


def _renamed_line(line: bytes, name: str) -> bytes:
    return b"data:" + rename(line[5:], name) if line.startswith(b"data:") else line


def _end_of_events(data: bytearray, start: int) -> int:
    """Behind the last blank line that ends after `start`, 0 if there is none. A line ends in LF, CRLF or CR."""
    ends = ((b"\n\n", 2), (b"\n\r\n", 3), (b"\r\r", 2))
    return max(data.rfind(blank, start) + size if data.rfind(blank, start) >= 0 else 0 for blank, size in ends)

"""What an engine's answer has to become on its way to the client: as it is, whole events, another name."""

from typing import Protocol

from router.errors import RouterError
from router.proxy.events import Events
from router.proxy.headers import for_client, lines
from router.proxy.rename import rename_early, rename_late, rename_whole
from router.proxy.upstream import Head

MAX_HELD = 64 << 20
"""Bytes of an answer that are held back until its `model` comes; a longer one goes on with the engine's."""


class Relay(Protocol):
    """One answer."""

    streams: bool
    usage: bytes
    """The piece that tells the tokens, b"" if none has."""

    def feed(self, data: bytes, *, ended: bool) -> bytes | list[bytes] | None:
        """What goes to the client, at the end maybe in pieces; None: nothing yet, not even the head."""

    def length(self, length: int | None) -> int | None:
        """The body's, where the engine's is `length`; once `feed` has given something."""

    def last_words(self, error: RouterError) -> bytes | None:
        """How an answer that has begun can still end with an error; None if it cannot."""


class _Shape:
    """What follows from an answer's head: the lines that go on to the client, and how the rest has to be read."""

    __slots__ = ("is_json", "lines", "streams")

    def __init__(self, head: Head) -> None:
        fields = head.fields
        kind = b"" if fields.get(b"content-encoding") else fields.get(b"content-type", b"").lower()
        self.streams = kind.startswith(b"text/event-stream") and head.status not in (204, 304)
        self.is_json = kind.startswith(b"application/json") and head.status not in (204, 304)
        kept = for_client(head.headers, fields)
        self.lines = lines([header for header in kept if header[0] != b"content-length"])


def shape_of(head: Head) -> _Shape:
    shape = head.relayed
    if not isinstance(shape, _Shape):
        shape = head.relayed = _Shape(head)
    return shape


def relay_for(head: Head, name: str | None) -> Relay:
    """`name` is the public name to show, None when the engine's is the same."""
    shape = shape_of(head)
    if shape.streams:
        return Stream(name)
    if shape.is_json and name is not None:
        return Renamed(name)
    return Plain(bodiless=head.status in (204, 304))


class Plain:
    """As it comes."""

    __slots__ = ("_bodiless", "usage")
    streams = False

    def __init__(self, *, bodiless: bool) -> None:
        self._bodiless = bodiless
        self.usage = b""

    def feed(self, data: bytes, *, ended: bool) -> bytes | None:
        if data and (ended or not self.usage):
            self.usage = usage_part(data) or self.usage
        return data

    def length(self, length: int | None) -> int | None:
        return None if self._bodiless else length

    def last_words(self, _error: RouterError) -> None:
        return None


LAST_EVENTS = (b"data: [DONE]\n\n", b'"message_stop"}\n\n')
"""How a stream ends in OpenAI's dialect, and in Anthropic's."""


class Stream:
    """Whole events, so that one that breaks off can still end with an event of its own."""

    __slots__ = ("_events", "_last", "_pass_on", "usage")
    streams = True

    def __init__(self, name: str | None) -> None:
        self._events = Events(name)
        self._pass_on = self._events.feed
        self.usage = self._last = b""

    def feed(self, data: bytes, *, ended: bool) -> bytes | None:
        data = self._pass_on(data)
        if data:
            self._last = data
        if data.rfind(b'"usage"') >= 0:
            self.usage = data
        return data + self._events.rest() if ended else data

    def length(self, _length: int | None) -> None:
        return None

    def last_words(self, error: RouterError) -> bytes:
        """Nothing more where the last event has been passed on, and only the framing's end is missing."""
        if self._last.endswith(LAST_EVENTS):
            return b""
        return (b"\n\n" if self._events.torn else b"") + error.event(named=self._events.named)


class Renamed:
    """Most engines say `model` early, and the answer streams on from there; of the others the whole is waited for."""

    __slots__ = ("_grown", "_held", "_name", "_passing", "_size", "usage")
    streams = False

    def __init__(self, name: str) -> None:
        self._name = name
        self._held: list[bytes] = []
        self._size = self._grown = 0
        self._passing = False
        self.usage = b""

    def feed(self, data: bytes, *, ended: bool) -> bytes | list[bytes] | None:
        if data and (ended or not self.usage):
            self.usage = usage_part(data) or self.usage
        if self._passing:
            return data
        if not self._held and data and (renamed := rename_early(data, self._name)) is not None:
            return self._pass_on(renamed, len(data))
        self._held.append(data)
        self._size += len(data)
        if not ended and self._size < MAX_HELD:
            return None
        if ended and (pieces := self._rename_end()) is not None:
            self._pass_on(b"", self._size - sum(map(len, pieces)))
            return pieces
        whole = b"".join(self._held)
        return self._pass_on(rename_whole(whole, self._name) if ended else whole, self._size)

    def _rename_end(self) -> list[bytes] | None:
        """The whole, where `model` stands at its end, as in OpenAI's embeddings: megabytes are neither read nor copied
        for it."""
        held = self._held
        while len(held) > 1 and len(held[-1]) < END:
            last = held.pop()
            held[-1] += last
        end = rename_late(held[-1], self._name)
        return None if end is None else [*held[:-1], end]

    def _pass_on(self, renamed: bytes, size: int) -> bytes:
        self._held.clear()
        self._passing = True
        self._grown = len(renamed) - size
        return renamed

    def length(self, length: int | None) -> int | None:
        return None if length is None else length + self._grown

    def last_words(self, _error: RouterError) -> None:
        return None


END = 4096
"""Bytes at an answer's end in which its `model` may stand behind everything else."""
USAGE_REACH = 2048
"""Bytes at an answer's ends in which its `usage` stands; the middle of a large one is not searched."""


def usage_part(data: bytes) -> bytes:
    if data.rfind(b'"usage"', -USAGE_REACH) >= 0:
        return data[-USAGE_REACH:]
    return data[:USAGE_REACH] if data.find(b'"usage"', 0, USAGE_REACH) >= 0 else b""

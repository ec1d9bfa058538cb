"""What an engine's answer has to become on its way to the client: as it is, whole events, another name."""

from typing import Protocol

from router.errors import RouterError
from router.proxy import headers as http
from router.proxy.events import Events
from router.proxy.rename import rename_early, rename_whole
from router.proxy.upstream import Connection

MAX_HELD = 64 << 20
"""Bytes of an answer that are held back until its `model` comes; a longer one goes on with the engine's."""


class Relay(Protocol):
    """One answer."""

    streams: bool
    usage: bytes
    """The piece that tells the tokens, b"" if none has."""

    def feed(self, data: bytes, *, ended: bool) -> bytes | None:
        """What goes to the client; None: nothing yet, not even the head."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Once `feed` has given something."""

    def last_words(self, error: RouterError) -> bytes | None:
        """How an answer that has begun can still end with an error; None if it cannot."""


def relay_for(connection: Connection, name: str | None) -> Relay:
    """`name` is the public name to show, None when the engine's is the same."""
    fields = connection.fields
    headers = http.for_client(connection.headers, fields)
    kind = fields.get(b"content-type", b"").lower()
    if fields.get(b"content-encoding"):
        kind = b""  # there is nothing to be read in it
    if connection.status in (204, 304):
        return Plain(_without_length(headers))
    if name is not None and kind.startswith(b"application/json"):
        return Renamed(headers, name)
    if kind.startswith(b"text/event-stream"):
        return Stream(_without_length(headers), name)
    return Plain(headers)


def _without_length(headers: http.Headers) -> list[tuple[bytes, bytes]]:
    return [header for header in headers if header[0] != b"content-length"]


class Plain:
    """As it comes."""

    __slots__ = ("_headers", "usage")
    streams = False

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers = headers
        self.usage = b""

    def feed(self, data: bytes, *, ended: bool) -> bytes | None:
        if data and (ended or not self.usage):
            self.usage = _usage_part(data)
        return data

    def headers(self) -> list[tuple[bytes, bytes]]:
        return self._headers

    def last_words(self, _error: RouterError) -> None:
        return None


class Stream:
    """Whole events, so that one that breaks off can still end with an event of its own."""

    __slots__ = ("_events", "_headers", "usage")
    streams = True

    def __init__(self, headers: list[tuple[bytes, bytes]], name: str | None) -> None:
        self._headers = headers
        self._events = Events(name)
        self.usage = b""

    def feed(self, data: bytes, *, ended: bool) -> bytes | None:
        data = self._events.feed(data)
        if b'"usage"' in data:
            self.usage = data
        return data + self._events.rest() if ended else data

    def headers(self) -> list[tuple[bytes, bytes]]:
        return self._headers

    def last_words(self, error: RouterError) -> bytes:
        return (b"\n\n" if self._events.torn else b"") + error.event(named=self._events.named)


class Renamed:
    """Most engines say `model` early, and the answer streams on from there; of the others the whole is waited for."""

    __slots__ = ("_grown", "_headers", "_held", "_name", "_passing", "_size", "usage")
    streams = False

    def __init__(self, headers: list[tuple[bytes, bytes]], name: str) -> None:
        self._headers, self._name = headers, name
        self._held: list[bytes] = []
        self._size = self._grown = 0
        self._passing = False
        self.usage = b""

    def feed(self, data: bytes, *, ended: bool) -> bytes | None:
        if data and (ended or not self.usage):
            self.usage = _usage_part(data)
        if self._passing:
            return data
        if not self._held and data and (renamed := rename_early(data, self._name)) is not None:
            return self._pass(data, renamed)
        self._held.append(data)
        self._size += len(data)
        if not ended and self._size < MAX_HELD:
            return None
        whole = b"".join(self._held)
        return self._pass(whole, rename_whole(whole, self._name) if ended else whole)

    def _pass(self, data: bytes, renamed: bytes) -> bytes:
        self._held.clear()
        self._passing = True
        self._grown = len(renamed) - len(data)
        return renamed

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (name, b"%d" % (int(value) + self._grown)) if name == b"content-length" else (name, value)
            for name, value in self._headers
        ]

    def last_words(self, _error: RouterError) -> None:
        return None


USAGE_REACH = 2048
"""Bytes at an answer's ends in which its `usage` stands; the middle of a large one is not searched."""


def _usage_part(data: bytes) -> bytes:
    if data.rfind(b'"usage"', -USAGE_REACH) >= 0:
        return data[-USAGE_REACH:]
    return data[:USAGE_REACH] if data.find(b'"usage"', 0, USAGE_REACH) >= 0 else b""

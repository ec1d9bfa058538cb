"""What an engine's answer has to become on its way to the client: as it is, whole events, another name."""

from collections.abc import Callable
from typing import Protocol

from router.errors import RouterError
from router.proxy.events import Events, content, decoded, is_named
from router.proxy.headers import for_client, lines
from router.proxy.rename import rename_early, rename_late, rename_whole
from router.proxy.upstream import Head
from router.proxy.usage import first_usage, is_usage_alone, last_usage, timings_part, usage_part

MAX_HELD = 64 << 20
"""Bytes of an answer that are held back until its `model` comes; a longer one goes on with the engine's."""


class Relay(Protocol):
    """One answer."""

    streams: bool
    aborted: bool
    """Whether the engine has given the answer up. What came before that has been passed on, nothing else will be."""

    @property
    def usage(self) -> bytes:
        """What tells the tokens, b"" if nothing has."""

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


def relay_for(head: Head, name: str | None, *, hide_usage: bool = False, aborts: bool = False) -> Relay:
    """`name` is the public name to show, None when the engine's is the same; the others are `Stream`'s."""
    shape = shape_of(head)
    if shape.streams:
        return Stream(name, hide_usage=hide_usage, aborts=aborts)
    if shape.is_json and name is not None:
        return Renamed(name)
    return Plain(bodiless=head.status in (204, 304))


class Plain:
    """As it comes."""

    __slots__ = ("_bodiless", "usage")
    streams = aborted = False

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
    """Whole events, so that one that breaks off can still end with an event of its own.

    `hide_usage`: the router asked for the usage, the client did not, and the event that tells nothing else stays here.
    `aborts`: the engine ends streams that it gives up as if all were well, and says so in an event. That one and what
    follows stay here, too.
    """

    __slots__ = (
        "_aborts",
        "_before",
        "_events",
        "_first_usage",
        "_hides",
        "_last",
        "_last_usage",
        "_pass_on",
        "aborted",
    )
    streams = True

    def __init__(self, name: str | None, *, hide_usage: bool = False, aborts: bool = False) -> None:
        self._hides, self._aborts = hide_usage, aborts
        self._events = Events(name)
        self._pass_on: Callable[[bytes], bytes] = self._events.feed
        self._first_usage = self._last_usage = self._before = self._last = b""
        self.aborted = False

    @property
    def usage(self) -> bytes:
        """Anthropic's streams tell the prompt's tokens at their start, and the rest at their end; llama.cpp's, where
        nobody asked for usage, have timings in the last event but one."""
        return self._first_usage + last_usage(self._last_usage) or timings_part(self._before + self._last)

    def feed(self, data: bytes, *, ended: bool) -> bytes | None:
        """None up to the first event: some engines send a head at once, and may still fail, or take a minute."""
        data = self._pass_on(data)
        if ended and not self.aborted:
            data += self._events.rest()
        if data.rfind(b'"usage"') >= 0:
            self._first_usage = self._first_usage or first_usage(data)
            self._last_usage = data
            if self._hides or self._aborts:
                data = self._sift(data)
        elif self._aborts and data.rfind(b'"abort"') >= 0:
            data = self._sift(data)
        if data:
            self._before, self._last = self._last, data
        return data if data or ended or self._last else None

    def _sift(self, data: bytes) -> bytes:
        kept = []
        for event in data.split(b"\n\n"):
            if self._aborts and may_tell_abort(event) and tells_abort(content(event)):
                self.aborted = True
                self._pass_on = _nothing
                kept.append(b"")
                break
            if not (self._hides and b'"usage"' in event and is_usage_alone(content(event))):
                kept.append(event)
        return b"\n\n".join(kept)

    def length(self, _length: int | None) -> None:
        return None

    @property
    def complete(self) -> bool:
        """Whether its last event has been passed on."""
        return self._last.endswith(LAST_EVENTS)

    def last_words(self, error: RouterError) -> bytes:
        """Nothing more where only the framing's end is missing."""
        if self.complete:
            return b""
        named = self._events.named or is_named(self._last)
        return (b"\n\n" if self._events.torn else b"") + error.event(named=named)


def _nothing(_data: bytes) -> bytes:
    return b""


def aborted(body: bytes) -> bool:
    """Whether a whole answer says that the engine has given it up: `finish_reason: abort`, or what vLLM makes of that
    in Anthropic's dialect (no reason at all), and in OpenAI's responses of gpt-oss (`cancelled`, which a client can do
    to no more than those in the background). Those of other models read as if they were complete."""
    return may_tell_abort(body) and tells_abort(decoded(body))


def may_tell_abort(text: bytes) -> bool:
    """What does not is not decoded for it. A text that only speaks of such a thing has its quotes escaped."""
    return any(text.rfind(mark) >= 0 for mark in (b'"abort"', b'"message_delta"', b'"type":"message"', b'"cancelled"'))


def tells_abort(document: object) -> bool:
    """Whether an event or a whole answer, decoded, is the end of one that the engine has given up."""
    match document:
        case {"choices": [*choices]}:
            return any(isinstance(choice, dict) and choice.get("finish_reason") == "abort" for choice in choices)
        case {"type": "message", "role": "assistant", "stop_reason": str()}:
            return False
        case (
            {"type": "message", "role": "assistant"}
            | {"type": "message_delta", "delta": {"stop_reason": None}}
            | {"type": "response.completed", "response": {"status": "cancelled", "background": False}}
            | {"object": "response", "status": "cancelled", "background": False}
        ):
            return True
    return False


class Renamed:
    """Most engines say `model` early, and the answer streams on from there; of the others the whole is waited for."""

    __slots__ = ("_grown", "_held", "_name", "_passing", "_size", "usage")
    streams = aborted = False

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

"""An answer on its way to the client: whole events of a stream, and the public name in place of the engine's."""

from collections.abc import Callable

import msgspec

from router.proxy.body import find_model

MAX_EVENT = 1 << 20
"""Bytes of one event that are held back until it is whole; a longer one goes on in pieces."""
PARENTS = (b"message", b"response")
"""Where Anthropic's and OpenAI's events keep a `model` that is not at the top."""


def rename(document: bytes, name: str) -> bytes | None:
    """`document` with `name` as its `model`; None when it has none (yet)."""
    spans = list(find_model(document, PARENTS))
    if not spans:
        return None
    quoted = msgspec.json.encode(name)
    for start, end in reversed(spans):
        document = b"%b%b%b" % (document[:start], quoted, document[end:])
    return document


class Events:
    """Server-sent events in whole, so that a stream that breaks off can still end with an event of its own.

    `name` is the public name to show, None when the engine's is the same.
    """

    __slots__ = ("_held", "_rename", "torn")

    def __init__(self, name: str | None) -> None:
        self._held = b""
        self._rename: Callable[[bytes], bytes] | None = None if name is None else _renamer(name)
        self.torn = False
        """Whether the last event that was given out lacks its end."""

    def feed(self, data: bytes) -> bytes:
        """The events that are whole with `data`, as the engine sent them; b"" when none is."""
        if self._held:
            data = self._held + data
        end = _end_of_events(data)
        if not end and len(data) < MAX_EVENT:
            self._held = data
            return b""
        self.torn = not end
        end = end or len(data)
        self._held = data[end:]
        events = data[:end] if self._held else data
        return events if self._rename is None else self._rename(events)

    def rest(self) -> bytes:
        """What the engine sent after the last whole event, at the end of its stream."""
        return self._held if self._rename is None else self._rename(self._held)


def _end_of_events(data: bytes) -> int:
    """Behind the last blank line, 0 if there is none."""
    newlines, returns = data.rfind(b"\n\n"), data.rfind(b"\r\n\r\n")
    return max(newlines + 2 if newlines >= 0 else 0, returns + 4 if returns >= 0 else 0)


def _renamer(name: str) -> Callable[[bytes], bytes]:
    def line(text: bytes) -> bytes:
        if not text.startswith(b"data:") or b'"model"' not in text:
            return text
        return b"data:" + (rename(text[5:], name) or text[5:])

    return lambda events: b"\n".join(map(line, events.split(b"\n")))

"""Server-sent events on their way to the client: whole ones, with the public name in place of the engine's."""

import msgspec

from router.proxy.body import find_model
from router.proxy.rename import PARENTS, quoted, rename

MAX_EVENT = 1 << 20
"""Bytes of one event that are held back until it is whole; a longer one goes on in pieces."""


class Events:
    """Server-sent events in whole, so that a stream that breaks off can still end with an event of its own, and with
    lines that end in LF, as some clients know no other end.

    `name` is the public name to show, None when the engine's is the same.
    """

    __slots__ = ("_after_cr", "_held", "_name", "_prefix", "_renamed_prefix", "_usual", "named", "torn")

    def __init__(self, name: str | None) -> None:
        self._held = bytearray()
        self._name = name
        self._prefix = self._renamed_prefix = b""
        self._usual = True
        """Nothing is held, and what came last neither lacks its end nor could be half of a CRLF."""
        self._after_cr = False
        self.torn = False
        """Whether the last event that was given out lacks its end."""
        self.named = False
        """Whether an event that came in parts had a name."""

    def feed(self, data: bytes) -> bytes:
        """The events that are whole with `data`, as the engine sent them but for CRs; b"" when none is."""
        # 13 is CR. A number is looked for in a third of the time of b"\r".
        if self._usual and data.endswith(b"\n\n") and 13 not in data:  # as it nearly always is
            prefix = self._prefix
            if prefix and data.startswith(prefix) and data.rfind(b'"model"', len(prefix)) < 0:
                return self._renamed_prefix + data[len(prefix) :]
            return data if self._name is None else self._renamed(data)
        return self._gather(data)

    def _gather(self, data: bytes) -> bytes:
        known = len(self._held)
        self._held += self._mended(data)
        end = self._held.rfind(b"\n\n", max(0, known - 1)) + 2
        whole = end > 1
        if not whole:
            end = len(self._held) if len(self._held) >= MAX_EVENT else 0
        events = bytes(self._held[:end])
        del self._held[:end]
        self.torn = not whole and (bool(events) or self.torn)
        self._usual = not (self._held or self.torn or self._after_cr)
        self.named = self.named or is_named(events)
        return self._renamed(events)

    def _mended(self, data: bytes) -> bytes:
        """With LF for CRLF and CR, which nothing but the end of a line can be: JSON has none in its strings. The LF of
        a CRLF that was cut in two has been written for its CR."""
        if not data:
            return data
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

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


def is_named(events: bytes) -> bool:
    """Whether the events have names, as Anthropic's and those of OpenAI's responses."""
    return events.startswith(b"event:") or b"\nevent:" in events


def content(event: bytes) -> object:
    """What one event carries, decoded; None if that is no JSON."""
    return decoded(b"\n".join([line[5:] for line in event.split(b"\n") if line.startswith(b"data:")]))


def decoded(document: bytes) -> object:
    """None if it is no JSON."""
    try:
        return msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def ping(named: bool) -> bytes:
    """What keeps a client waiting while there is nothing to send: a comment, or for Anthropic's, who pass over comments
    and give up after 15 s, an event."""
    return b'event: ping\ndata: {"type": "ping"}\n\n' if named else b": ping\n\n"

"""An answer that came too late to be what it is: its client has been told already that it gets a stream."""

import msgspec

from router.errors import RouterError, UpstreamError
from router.proxy.events import decoded
from router.proxy.usage import usage_part

MAX_LATE = 1 << 20
"""Bytes of an answer that are gathered to become one event."""
MAX_TEXT = 200
"""Characters of what an engine says that a client is told, where it is no error in itself."""


class Late:
    """An answer that is no stream, where the client has been promised one to keep it waiting. It becomes one event: an
    error mostly, as the status of 200 is past.

    `status` is the engine's; `named`: the path is one whose events have names, which a whole answer cannot become.
    `error` is to be recorded, "" where it was the answer after all.
    """

    __slots__ = ("_held", "_named", "_status", "error", "usage")
    streams = True
    aborted = False

    def __init__(self, status: int, *, named: bool) -> None:
        self._status, self._named = status, named
        self._held = bytearray()
        self.usage = b""
        self.error = UpstreamError.code

    def feed(self, data: bytes, *, ended: bool) -> bytes:
        if len(self._held) <= MAX_LATE:
            self._held += data
        if not ended:
            return b""
        body = bytes(self._held)
        self.usage = usage_part(body)
        return self._event(body, decoded(body) if len(body) <= MAX_LATE else None)

    def _event(self, body: bytes, document: object) -> bytes:
        match document:
            case {"error": {**error}} if self._named:
                return b"event: error\ndata: %b\n\n" % msgspec.json.encode({"type": "error", "error": error})
            case {"error": {}}:
                return b"data: %b\n\n" % msgspec.json.format(body, indent=-1)
            case {} if self._status < 400 and not self._named:
                self.error = ""
                return b"data: %b\n\n" % msgspec.json.format(body, indent=-1)
        return self._told(_said(body, document)).event(named=self._named)

    def _told(self, said: str) -> RouterError:
        what = f"{self._status}: {said[:MAX_TEXT]}" if self._status >= 400 else f"{self._status}, but no stream"
        return UpstreamError(f"the engine answered {what}")

    def length(self, _length: int | None) -> None:
        return None

    def last_words(self, error: RouterError) -> bytes:
        return error.event(named=self._named)


def _said(body: bytes, document: object) -> str:
    match document:
        case {"message": str(text)} | {"detail": str(text)} | {"error": str(text)}:
            return text
    return " ".join(body[: 4 * MAX_TEXT].decode(errors="replace").split())

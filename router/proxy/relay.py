"""An engine's answer on its way to the client, as it is made."""

import logging

from router.errors import RouterError
from router.proxy import headers as http
from router.proxy.answer import Events, rename_early, rename_whole
from router.proxy.asgi import Send
from router.proxy.upstream import Connection

MAX_HELD = 64 << 20
"""Bytes of an answer that are held back until its `model` comes; a longer one goes on with the engine's."""

log = logging.getLogger("router.proxy")


class Answer:
    """What the client has been sent so far, and so how it can still be ended."""

    __slots__ = ("_events", "_send", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._events: Events | None = None
        self.started = False

    async def start(self, status: int, headers: list[tuple[bytes, bytes]], events: Events | None = None) -> None:
        self.started = True
        self._events = events
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def fail(self, error: RouterError) -> None:
        """The error is the whole answer, or the last event of a stream. Any other answer that has begun is left without
        its end: the server closes the connection then, and the client notices."""
        if not self.started:
            await self.start(error.status, error.headers())
            await self.body(error.envelope(), more=False)
        elif self._events is not None:
            await self.body((b"\n\n" if self._events.torn else b"") + error.event(named=self._events.named), more=False)
        else:
            log.warning("an answer broke off: %s", error.message)


async def relay(connection: Connection, answer: Answer, name: str | None) -> None:
    """The whole answer; `name` is the public name to show in it, None when the engine's is the same. Raises Died."""
    kind = (http.find(connection.headers, b"content-type") or b"").lower()
    if http.find(connection.headers, b"content-encoding"):
        kind = b""  # there is nothing to be read in it
    if connection.status in (204, 304):
        await _relay_head(connection, answer)
    elif kind.startswith(b"text/event-stream"):
        await _relay_events(connection, answer, name)
    elif name is not None and kind.startswith(b"application/json"):
        await _relay_renamed(connection, answer, name)
    else:
        await answer.start(connection.status, http.for_client(connection.headers))
        await _relay_rest(connection, answer)


async def _relay_head(connection: Connection, answer: Answer) -> None:
    """An answer that has no body, whatever length it gives."""
    headers = [header for header in http.for_client(connection.headers) if header[0] != b"content-length"]
    await answer.start(connection.status, headers)
    await answer.body(b"", more=False)


async def _relay_rest(connection: Connection, answer: Answer) -> None:
    while True:
        data = await connection.read()
        await answer.body(data, more=not connection.ended)
        if connection.ended:
            return


async def _relay_events(connection: Connection, answer: Answer, name: str | None) -> None:
    events = Events(name)
    headers = [header for header in http.for_client(connection.headers) if header[0] != b"content-length"]
    await answer.start(connection.status, headers, events)
    while not connection.ended:
        if whole := events.feed(await connection.read()):
            await answer.body(whole, more=True)
    await answer.body(events.rest(), more=False)


async def _relay_renamed(connection: Connection, answer: Answer, name: str) -> None:
    """Most engines say `model` early, and the answer streams on from there; of the others the whole is waited for."""
    data = await connection.read()
    renamed = rename_early(data, name)
    if renamed is None:
        parts, size = [data], len(data)
        while not connection.ended and size < MAX_HELD:
            parts.append(await connection.read())
            size += len(parts[-1])
        data = b"".join(parts)
        renamed = rename_whole(data, name) if connection.ended else data
    headers = http.for_client(connection.headers)
    if (length := http.find(headers, b"content-length")) is not None:
        grown = int(length) + len(renamed) - len(data)
        headers = [
            *(header for header in headers if header[0] != b"content-length"),
            (b"content-length", b"%d" % grown),
        ]
    await answer.start(connection.status, headers)
    await answer.body(renamed, more=not connection.ended)
    if not connection.ended:
        await _relay_rest(connection, answer)

"""One request on a client's connection, and the answer to it, in bytes."""

import asyncio
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from router.errors import RouterError
from router.proxy.headers import Headers


class Work(Protocol):
    """Who makes the answer."""

    def begin(self) -> None:
        """The whole request is here."""

    def pause(self) -> None:
        """The client does not read: make no more for now."""

    def resume(self) -> None: ...

    def leave(self) -> None:
        """The client has gone."""

    def fail(self, error: RouterError) -> None:
        """The answer ends with this, as well as it still can."""


class Client(Protocol):
    """The connection, as far as a turn goes."""

    def turn_over(self) -> None: ...


class Turn:
    """`parts`, `size` bytes of them, become the `body` when it is `complete`. The answer is `start`, any number of `write`, `finish`; its head goes out together
    with what is written first."""

    __slots__ = (
        "_chunked", "_client", "_head", "_transport", "body", "complete", "done", "expect", "fields", "headers",
        "keep_alive", "method", "parts", "path", "peer", "query", "sent", "size", "started", "url", "version", "work",
    )  # fmt: skip

    def __init__(self, client: Client, transport: asyncio.Transport, peer: str) -> None:
        self._client, self._transport, self.peer = client, transport, peer
        self.method = "GET"
        self.url = b""
        self.path = ""
        self.query = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.fields: dict[bytes, bytes] = {}
        """The headers by name, the first of each."""
        self.version = "1.1"
        self.keep_alive = True
        self.expect = False
        self.parts: list[bytes] = []
        self.size = 0
        self.body = b""
        self.complete = False
        self.work: Work | None = None
        self.started = self.done = False
        self.sent = 0
        """Bytes of the answer's body so far."""
        self._head = b""
        self._chunked = False

    def start(self, status: int, headers: Headers) -> None:
        """Names in lower case. Without a `content-length` the body has its own framing, or the connection's end."""
        framed = status in (204, 304)
        for name, value in headers:
            if name == b"content-length":
                framed = True
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
        lines = [b"%b: %b\r\n" % header for header in headers if header[0] != b"connection"]
        if not framed:
            if self.version == "1.1":
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.keep_alive = False
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        self.started = True
        self._head = b"%b%b\r\n" % (STATUS_LINE[status], b"".join(lines))

    def write(self, data: bytes) -> None:
        """`data` may be empty, to send the head alone."""
        if data:
            self.sent += len(data)
            if self._chunked:
                data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._head:
            data = self._head + data
            self._head = b""
        if data:
            self._transport.write(data)

    def finish(self, data: bytes) -> None:
        """With the last of the body."""
        self.sent += len(data)
        if self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        self._transport.write(self._head + data)
        self.over()

    def refuse(self, error: RouterError) -> None:
        """The error is the whole answer."""
        self.start(error.status, error.headers())
        self.finish(b"" if self.method == "HEAD" else error.envelope())

    def tear(self) -> None:
        """What was begun has no end: the connection's tells the client."""
        self.keep_alive = False
        self.write(b"")
        self.over()

    def over(self) -> None:
        """The whole answer has been written."""
        self.done = True
        self.work = None
        self._client.turn_over()

"""One request on a client's connection, and the answer to it, in bytes."""

import asyncio
import socket
import struct
import urllib.parse
from typing import Any, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from router.errors import RouterError
from router.proxy.headers import Fields, Headers, lines
from router.proxy.named import id_line

LARGE = 65536
"""Bytes that are not copied to go out in one piece with the head."""
SMALL = 1024
"""Bytes of a piece that would take less than what Python needs to hold it, or not much more."""


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


class Eater(Protocol):
    """Who takes a request's body as it comes."""

    def fed(self) -> None:
        """There is more of it to `take`; not called for the last of it, with which `begin` comes."""


class Raw(Protocol):
    """Who takes whatever the client sends behind a request for another protocol."""

    def feed(self, data: bytes) -> None: ...

    def eof(self) -> bool:
        """The client sends no more. Whether it may still be sent something."""


class Client(Protocol):
    """The connection, as far as a turn goes."""

    def turn_over(self) -> None: ...
    def go_raw(self, raw: Raw) -> None: ...
    def pause_body(self) -> None: ...
    def resume_body(self) -> None: ...


class Head:
    """A request's line and headers. `upgrade` is the other protocol it asks for, in lower case, "" for none. Nothing of
    it changes, but what others have found in it: `admitted`, `holder`, `admin`, `lines` and `opens` are the proxy's."""

    __slots__ = (
        "admin", "admitted", "expect", "fields", "headers", "holder", "keep_alive", "lines", "method", "opens", "path",
        "query", "upgrade", "url", "version",
    )  # fmt: skip

    def __init__(
        self,
        method: str = "GET",
        url: bytes = b"/",
        path: str = "/",
        query: bytes = b"",
        headers: Headers = (),
        fields: Fields | None = None,
        version: str = "1.1",
        *,
        keep_alive: bool = True,
    ) -> None:
        self.method, self.url, self.path, self.query, self.version = method, url, path, query, version
        self.headers, self.fields, self.keep_alive = headers, fields or {}, keep_alive
        self.expect = version == "1.1" and self.fields.get(b"expect", b"").lower() == b"100-continue"
        self.admitted: object = None
        self.opens: Any = None
        self.holder = ""
        self.admin = False
        self.lines = b""
        self.upgrade = ""


def split_target(url: bytes) -> tuple[str, bytes]:
    """A request target's path, its escapes undone, and query."""
    if url[:1] == b"/" and url.isascii():
        path, _, query = url.partition(b"?")
        path, _, _ = path.partition(b"#")
        text = path.decode("ascii")
        return urllib.parse.unquote(text) if "%" in text else text, query
    try:
        parsed = httptools.parse_url(url)
        return urllib.parse.unquote((parsed.path or b"/").decode("ascii")), parsed.query or b""
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
        return "/", b""


def put(parts: list[bytes | bytearray], piece: bytes) -> None:
    """Small ones together, but for the first: a body in chunks of two bytes would take thirty times its size."""
    last = parts[-1] if parts else b""
    if isinstance(last, bytearray) and len(last) < LARGE:
        last += piece
    else:
        parts.append(bytearray(piece) if parts and len(piece) < SMALL else piece)


class Turn:
    """`parts`, `size` bytes of them so far, become the `body` when it is `complete`; an `eater` takes them before. The
    answer is `start`, any number of `write`, `finish`; its head goes out together with what is written first. `id` is
    the request's, b"" while it has none."""

    __slots__ = (
        "_chunked", "_client", "_endless", "_head", "_transport", "body", "complete", "done", "eater", "head", "id",
        "keep_alive", "parts", "peer", "sent", "size", "started", "work",
    )  # fmt: skip

    def __init__(self, client: Client, transport: asyncio.Transport, peer: str, head: Head) -> None:
        self._client, self._transport, self.peer, self.head = client, transport, peer, head
        self.keep_alive = head.keep_alive
        self.parts: list[bytes | bytearray] = []
        self.size = self.sent = 0
        """Bytes of the request's body, and of the answer's, so far."""
        self.body = self._head = self.id = b""
        self.complete = self.started = self.done = self._chunked = self._endless = False
        self.work: Work | None = None
        self.eater: Eater | None = None

    @property
    def untold(self) -> bool:
        """Whether its body comes is anybody's guess: who waits for leave to send it may send it all the same, or not.
        Once it has begun it comes, and a connection that was closed under it could take the answer along."""
        return self.head.expect and not self.complete and not self.size

    def take(self) -> bytes:
        """What has come of the body and was not taken."""
        data = self.body or b"".join(self.parts)
        self.body = b""
        self.parts.clear()
        return data

    def pause_body(self) -> None:
        """Read no more of it, for the client's pause is not its own."""
        self._client.pause_body()

    def resume_body(self) -> None:
        self._client.resume_body()

    def go_raw(self, raw: Raw) -> None:
        """What comes behind the request is no HTTP, and the connection's last turn is this one."""
        self.keep_alive = False
        self._client.go_raw(raw)

    def switch(self, fields: bytes) -> None:
        """The other protocol begins: what is written from here on has no framing."""
        self.started = True
        self._transport.write(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % fields)

    def start(self, status: int, fields: bytes, length: int | None) -> None:
        """`fields`: lines of headers, without any on the framing. `length` of the body; None: it has framing of its
        own, or the connection's end."""
        self.started = True
        if length is not None:
            framing = b"content-length: %d\r\n" % length
        elif status in (204, 304):
            framing = b""
        elif self.head.version == "1.1":
            self._chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self._endless = True
            self.keep_alive = False
            framing = b""
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        self._head = b"%b%b%b\r\n" % (STATUS_LINE[status], fields, framing)

    def answer(self, status: int, fields: bytes, body: bytes) -> None:
        """The whole of it, in one piece."""
        if status in (204, 304) or not self.keep_alive:
            self.start(status, fields, None if status in (204, 304) else len(body))
            self.finish(body)
            return
        self.started = True
        self.sent = len(body)
        self._transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (STATUS_LINE[status], fields, len(body), body))
        self.over()

    def write(self, data: bytes) -> None:
        """`data` may be empty, to send the head alone."""
        if data:
            size = len(data)
            self.sent += size
            if self._chunked:
                data = b"%x\r\n%b\r\n" % (size, data)
        if self._head:
            self._send(data)
        elif data:
            self._transport.write(data)

    def finish(self, data: bytes | list[bytes]) -> None:
        """With the last of the body; its pieces, if it has some, are not copied."""
        if isinstance(data, list):
            self._finish_with(data)
            return
        self.sent += len(data)
        if self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        self._send(data)
        self.over()

    def _finish_with(self, pieces: list[bytes]) -> None:
        length = sum(map(len, pieces))
        self.sent += length
        frame, end = (b"%x\r\n" % length, b"\r\n0\r\n\r\n") if self._chunked else (b"", b"")
        self._transport.writelines([piece for piece in (self._head + frame, *pieces, end) if piece])
        self.over()

    def _send(self, data: bytes) -> None:
        """With the head, if that is still here."""
        head, self._head = self._head, b""
        if head and len(data) > LARGE:
            self._transport.writelines((head, data))  # spares a copy
        elif head or data:
            self._transport.write(head + data)

    def refuse(self, error: RouterError, fields: bytes = b"") -> None:
        """The error is the whole answer, with the lines `fields` among its headers."""
        self.keep_alive = self.keep_alive and not error.closes and not self.untold
        body = error.envelope(full=self.head.admin)
        self.start(error.status, lines(error.headers()) + id_line(self.id) + fields, len(body))
        self.finish(b"" if self.head.method == "HEAD" else body)

    def tear(self) -> None:
        """What was begun has no end: the connection's tells the client; its reset, where the end is the answer's."""
        self.keep_alive = False
        self.write(b"")
        if self._endless:
            end = self._transport.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        self.over()

    def over(self) -> None:
        """The whole answer has been written."""
        self.done = True
        self.work = self.eater = None
        self._client.turn_over()

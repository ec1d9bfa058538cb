"""A client's connection: uvicorn's own protocol, within bounds.

What uvicorn leaves open and this closes: a client that does not read its answer, a head without end, a connection that
never says anything, a client that leaves while a request of its own is queued behind the one in work, text that breaks
into an answer, trailers taken for headers, a body lost behind a wish for another protocol.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from router.errors import HeadTooLarge, InvalidRequest, RouterError

MAX_HEAD = 65536
"""Bytes of a request's line and headers that may come without its end; likewise of its trailers."""
MAX_QUEUED = 16
"""Requests behind the one in work on one connection. With more it is not read on, nor its end noticed, until one is
done."""


class ClientProtocol(HttpToolsProtocol):
    """One client's connection. The keep-alive timer runs whenever no whole head has come, from the first moment on."""

    def __init__(self, *args: Any, send_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._send_timeout = send_timeout
        self._unread: asyncio.TimerHandle | None = None
        self._fruitless = 0
        self._bore_fruit = False
        self._working: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        while data and not self.transport.is_closing():
            data = self._feed(data)

    def _feed(self, data: bytes) -> bytes:
        """What is to be fed next, b"" for nothing."""
        self._bore_fruit = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(InvalidRequest("the request is not HTTP/1.1", code="invalid_http"))
            return b""
        self._fruitless = 0 if self._bore_fruit else self._fruitless + len(data)
        if self._fruitless > MAX_HEAD:  # of a head, of a chunk's extensions, of trailers
            self._refuse(HeadTooLarge(f"the request's headers are larger than {MAX_HEAD} bytes"))
        return b""

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_unread()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.pipeline.clear()
        if (cycle := self._working) is not None and not cycle.response_complete:
            self._leave(cycle)  # uvicorn tells only the request that came last

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self._send_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget_unread()
        super().resume_writing()

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._bore_fruit = True

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._bore_fruit = True
        self._unset_keepalive_if_required()
        super().on_headers_complete()
        self.headers = []  # where trailers go
        if 0 < len(self.pipeline) <= MAX_QUEUED:
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        self._bore_fruit = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._bore_fruit = True
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _stay(self, rest: bytes) -> bytes:
        """What to feed to go on as if the client had not asked for another protocol: Java's asks for h2c with each
        request. The parser has stopped behind the head, so another one reads it again, without the wish, and then the
        body."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(InvalidRequest("the router does not take CONNECT", code="invalid_http"))
            return b""
        self.parser = httptools.HttpRequestParser(self)
        lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self.url, b"".join(lines), rest)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._working = cycle
        super()._start_asgi_task(cycle, app)

    def _refuse(self, error: RouterError) -> None:
        """The last answer on this connection; none where it would break into another one."""
        cycle = self._working
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started or self.pipeline:
                self.transport.abort()
                return
            self._leave(cycle)
        lines = [b"%b: %b\r\n" % header for header in error.headers()]
        head = b"%b%bconnection: close\r\n\r\n" % (STATUS_LINE[error.status], b"".join(lines))
        self.transport.write(head + error.envelope())
        self.transport.close()

    @staticmethod
    def _leave(cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True
        cycle.message_event.set()

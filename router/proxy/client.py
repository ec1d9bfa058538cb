"""A client's connection: requests in, one after the other, within bounds.

An HTTP protocol for uvicorn's server. Its own would cost a task and half a dozen objects a request, and leaves open
what this closes: a client that does not read its answer, a head without end, a connection that never says anything, a
client that leaves while a request of its own is queued behind the one in work, trailers taken for headers, a body lost
behind a wish for another protocol.
"""

import asyncio
from collections import deque
from typing import Any, Protocol

import httptools
import uvicorn
from uvicorn.server import ServerState

from router.errors import BodyTimeout, HeadTooLarge, InvalidRequest, RouterError, TooLarge, Unavailable
from router.proxy.again import Again
from router.proxy.headers import by_name
from router.proxy.rest import Rest
from router.proxy.turn import Head, Raw, Turn, Work, put, split_target

MAX_HEAD = 65536
"""Bytes of a request's line and headers that may come without its end; likewise of its trailers."""
MAX_QUEUED = 16
"""Requests behind the one in work on one connection. With more it is not read on, nor its end noticed, until one is
done."""
LINGER = 5.0
"""Seconds in which a kept connection's next request is still answered when another process has taken over."""
MAX_REST = 65536
"""Bytes of a body for the ASGI application."""


class Limits(Protocol):
    """What a client may do. `max_body` in bytes; in seconds, `body_timeout`: a pause in its body, and `send_timeout`:
    how long it may leave its answer unread."""

    @property
    def max_body(self) -> int: ...
    @property
    def body_timeout(self) -> float: ...
    @property
    def send_timeout(self) -> float: ...


class Bounds:
    """Limits that can change while connections are open."""

    def __init__(self, limits: Limits) -> None:
        self.set(limits)

    def set(self, limits: Limits) -> None:
        self.max_body, self.body_timeout, self.send_timeout = limits.max_body, limits.body_timeout, limits.send_timeout


class Plane(Protocol):
    """Who answers what the ASGI application does not."""

    def open(self, turn: Turn) -> Work | None:
        """The head is here. None: it is the application's. Raises RouterError."""


class ClientProtocol(asyncio.Protocol):
    """One client's connection. The requests that came and are not answered are `_turn`, in work, and `_queue`."""

    def __init__(
        self,
        *,
        config: uvicorn.Config,
        server_state: ServerState,
        plane: Plane | None,
        limits: Limits,
        _loop: asyncio.AbstractEventLoop | None = None,
        **_: Any,
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self._config, self._state, self._plane, self._limits = config, server_state, plane, limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._turn: Turn | None = None
        self._queue: deque[Turn] = deque()
        self._reading: Turn | None = None
        self._raw: Raw | None = None
        self._url, self._wish = b"", ""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head = Head()
        self._again: Again[Head] | None = None
        self._heads = self._fruitless = 0
        self._advancing = self._fruitful = self._in_head = self._retiring = False
        self._reading_paused = self._body_paused = False
        self._unread: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self.expires = self.loop.time() + config.timeout_keep_alive
        """When it is closed unless the head of a request has come."""
        self.transport: asyncio.Transport
        self._peer = ""

    # What the server calls

    def shutdown(self) -> None:
        """No further request, but for what `retire` still allows."""
        if self._retiring:
            return
        self._queue.clear()
        if self._turn is None:
            self.transport.close()
        else:
            self._turn.keep_alive = False

    def retire(self) -> None:
        """The next answer is the last and says so, as another process takes the connections that come. A client that
        does not ask for it in `LINGER` seconds has no more time."""
        self._retiring = True
        if self._turn is None:
            self.loop.call_later(LINGER, self._close_if_idle)
        elif not self._turn.started:  # else it has been told that it may go on
            self._turn.keep_alive = False

    def _close_if_idle(self) -> None:
        if self._turn is None:
            self.transport.close()

    def give_up(self) -> None:
        """The request in work has no more time."""
        turn = self._turn
        if turn is None:
            self.transport.close()
            return
        error = Unavailable("the router is shutting down", code="shutting_down", retry_after=5)
        turn.keep_alive = False
        if turn.work is not None:
            turn.work.fail(error)

    def look(self, now: float) -> None:
        """Closes what has been silent for too long."""
        if self._turn is None and self.expires <= now:
            self.transport.close()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's transport is a Transport
        self._state.connections.add(self)  # type: ignore[arg-type]  # it is only told to shut down
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""

    def connection_lost(self, _exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self._forget_unread()
        self._forget_stalled()
        self._queue.clear()
        turn, self._turn = self._turn, None
        if turn is not None and turn.work is not None:
            turn.work.leave()
            turn.work = turn.eater = None
        self._parser = self._raw = None  # they hold this object, and nobody looks for cycles often

    def eof_received(self) -> bool:
        return self._raw is not None and self._raw.eof()

    def pause_writing(self) -> None:
        self._unread = self.loop.call_later(self._limits.send_timeout, self.transport.abort)
        if self._turn is not None and self._turn.work is not None:
            self._turn.work.pause()

    def resume_writing(self) -> None:
        self._forget_unread()
        if self._turn is not None and self._turn.work is not None:
            self._turn.work.resume()
        elif self._queue and not self._advancing:
            self._advance()

    def data_received(self, data: bytes) -> None:
        again = self._again
        at_start = self._turn is None and self._reading is None and not self._in_head and self._unread is None
        if again is not None and at_start and (start := again.body_at(data)):
            turn = Turn(self, self.transport, self._peer, again.found)
            turn.body = data[start:]
            turn.size = len(turn.body)
            turn.complete = True
            self._take_up(turn)
            return
        rest = data
        while rest and not self.transport.is_closing():
            rest = self._feed(rest)
        if self._reading is not None:
            self._expect_more()
        elif at_start and self._heads & (self._heads - 1) == 0 and self._heads > 1:
            self._remember(data)

    def _remember(self, data: bytes) -> None:
        """From the second request on, as many connections carry but one; not each time, as some heads never repeat."""
        head = self._head
        if head.version == "1.1" and head.keep_alive and not head.expect and b"transfer-encoding" not in head.fields:
            again = Again.of(data, head)
            if again is not None and again.body_at(data):
                self._again = again

    def _feed(self, data: bytes) -> bytes:
        """What is to be fed next, b"" for nothing."""
        if self._raw is not None:
            self._raw.feed(data)
            return b""
        self._fruitful = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._heads and self._reading is None and not self._head.keep_alive:
                return b""  # it goes on behind a request that was to be the last
            self._refuse(InvalidRequest("the request is not HTTP/1.1", code="invalid_http"))
            return b""
        self._fruitless = 0 if self._fruitful else self._fruitless + len(data)
        if self._fruitless > MAX_HEAD:  # of a head, of a chunk's extensions, of trailers
            self._refuse(HeadTooLarge(f"the request's headers are larger than {MAX_HEAD} bytes"))
        return b""

    # What httptools calls

    def on_message_begin(self) -> None:
        self._fruitful = True
        self._in_head = True
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser.should_upgrade():
            return
        self._fruitful = True
        self._in_head = False
        self._heads += 1
        headers, self._headers = self._headers, []  # where trailers go
        version = parser.get_http_version()
        path, query = split_target(self._url)
        head = self._head = Head(
            parser.get_method().decode("ascii"), self._url, path, query, headers, by_name(headers), version,
            keep_alive=version == "1.1" and parser.should_keep_alive(),
        )  # fmt: skip
        head.upgrade, self._wish = self._wish, ""
        turn = self._reading = Turn(self, self.transport, self._peer, head)
        if self._turn is None and not self._queue and self._unread is None:
            self._take_up(turn)
            return
        self._queue.append(turn)
        if len(self._queue) > MAX_QUEUED:
            self._pause_reading()

    def on_body(self, body: bytes) -> None:
        self._fruitful = True
        turn = self._reading
        if turn is None or turn.done or turn.size > self._limits.max_body:
            return
        put(turn.parts, body)
        turn.size += len(body)
        if turn is not self._turn:
            if sum(queued.size for queued in self._queue) > self._limits.max_body:
                self._pause_reading()
        elif turn.size > self._most(turn):
            self._fail(turn, self._too_large(turn))
        elif turn.eater is not None:
            turn.eater.fed()

    def on_message_complete(self) -> None:
        self._fruitful = True
        turn = self._reading
        if turn is None or self._parser.should_upgrade():
            return
        self._reading = None
        turn.complete = True
        turn.body = turn.take()
        if turn is self._turn and turn.work is not None:
            turn.work.begin()

    # One turn after the other

    def _take_up(self, turn: Turn) -> None:
        self._turn = turn
        if self._retiring:
            turn.keep_alive = False
        try:
            work = None if self._plane is None else self._plane.open(turn)
            if turn.done:
                return
            turn.work = work or Rest(turn, self.transport, self._config, self._state)
            declared = 0 if turn.complete else int(turn.head.fields.get(b"content-length", 0))
            if max(declared, turn.size) > self._most(turn):
                raise self._too_large(turn)
        except RouterError as error:
            self._fail(turn, error)
            return
        if turn.complete:
            turn.work.begin()
        elif turn.parts and turn.eater is not None:
            turn.eater.fed()
        elif turn.head.expect:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def go_raw(self, raw: Raw) -> None:
        self._raw = raw

    def pause_body(self) -> None:
        self._body_paused = True
        self._forget_stalled()
        self._pause_reading()

    def resume_body(self) -> None:
        self._body_paused = False
        if len(self._queue) <= MAX_QUEUED:
            self._resume_reading()
        self._expect_more()

    def turn_over(self) -> None:
        turn, self._turn = self._turn, None
        if self.transport.is_closing():
            return
        if self._body_paused:
            self.resume_body()  # what is left of it is read over
        if turn is not None and (not turn.keep_alive or turn.untold):
            self._queue.clear()
            self.transport.close()
            return
        self.expires = self.loop.time() + self._config.timeout_keep_alive
        if self._retiring:
            self.loop.call_later(LINGER, self._close_if_idle)
        if self._queue and not self._advancing:
            self._advance()

    def _advance(self) -> None:
        """A loop, as each may end at once, and many may have come in one piece; not while an answer lies unread."""
        self._advancing = True
        while self._queue and self._turn is None and self._unread is None:
            self._take_up(self._queue.popleft())
        self._advancing = False
        if self._reading is not None:
            self._expect_more()
        if len(self._queue) <= MAX_QUEUED and not self._body_paused:
            self._resume_reading()

    def _fail(self, turn: Turn, error: RouterError) -> None:
        if turn.work is not None:
            turn.work.fail(error)
        elif not turn.done:
            turn.refuse(error)

    def _most(self, turn: Turn) -> int:
        """Bytes of its body. The application's paths take none, and some of them need no key."""
        return min(MAX_REST, self._limits.max_body) if isinstance(turn.work, Rest) else self._limits.max_body

    def _too_large(self, turn: Turn) -> TooLarge:
        remedy = "this path takes none" if isinstance(turn.work, Rest) else "send less, or raise `max_body`"
        return TooLarge(f"the body is larger than {self._most(turn)} bytes; {remedy}")

    # A client that is slow, or not in its senses

    def _expect_more(self) -> None:
        """The request in work is not whole yet."""
        self._forget_stalled()
        turn = self._reading
        if turn is not None and turn is self._turn and not turn.done and not self._body_paused:
            self._stalled = self.loop.call_later(self._limits.body_timeout, self._stall)

    def _stall(self) -> None:
        turn = self._turn
        if turn is not None and not turn.complete:
            self._fail(turn, BodyTimeout("the body stopped coming; send it without a pause"))

    def _refuse(self, error: RouterError) -> None:
        """The last answer on this connection; none where it would break into another one."""
        turn = self._turn
        if self._queue or (turn is not None and turn.started):
            self.transport.abort()
            return
        turn = turn or Turn(self, self.transport, self._peer, Head())
        turn.keep_alive = False
        self._turn = turn
        self._fail(turn, error)

    def _stay(self, rest: bytes) -> bytes:
        """What to feed to go on as if the client had not asked for another protocol: Java's asks for h2c with each
        request. The parser has stopped behind the head, so another one reads it again, without the wish, and then the
        body. Whoever answers may still grant it."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(InvalidRequest("the router does not take CONNECT", code="invalid_http"))
            return b""
        version = self._parser.get_http_version().encode()
        self._parser = httptools.HttpRequestParser(self)
        lines = [b"%b: %b\r\n" % header for header in self._headers if header[0] != b"upgrade"]
        self._wish = b",".join(value for name, value in self._headers if name == b"upgrade").decode("latin-1").lower()
        self._feed(b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._url, version, b"".join(lines)))
        return rest

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _forget_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

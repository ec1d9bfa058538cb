"""Connections to engines: HTTP/1.1 on `asyncio.Protocol` and `httptools`, one pool a target.

A connection carries one exchange at a time. The pool closes an idle connection before the engine does, counts how often
the engine lets it be used, and gives an exchange up when the engine is silent for too long. Why not a library: the
measurements in ARCHITECTURE.md.

All mutable state of a pool is in `idle` and `busy`.
"""

import asyncio
import ssl
from collections.abc import Callable

import httptools

from router.catalog import Address

HIGH_WATER = 65536
"""Bytes of an answer that may wait for a slow client before the engine's socket is no longer read."""
MAX_HEAD = 65536
"""Bytes of headers an engine may send."""
SWEEP = 1.0
"""Seconds between two looks for connections that are idle or silent for too long."""


class ConnectFailed(Exception):
    """No connection could be opened, so no byte was sent."""


class Died(Exception):
    """The exchange cannot go on. `silent`: not one byte of an answer had come. `timed_out`: the engine was too slow."""

    def __init__(self, reason: str, *, silent: bool = False, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.silent, self.timed_out = silent, timed_out


class Connection(asyncio.Protocol):
    """One connection to an engine. `ask` sends a request and gives the status; `headers` and `read` give the rest."""

    __slots__ = (
        "_chunks", "_death", "_fruitless", "_head", "_head_size", "_loop", "_parser", "_paused", "_size", "_transport",
        "_until_close", "_waiter", "closed", "deadline", "done", "expires", "headers", "keep", "pool", "status", "used",
    )  # fmt: skip

    def __init__(self, pool: "Pool") -> None:
        self.pool = pool
        self._loop = pool.loop
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._head: asyncio.Future[None] | None = None
        self._death: Died | None = None
        self._chunks: list[bytes] = []
        self._size = self._head_size = self._fruitless = 0
        self._paused = self._until_close = False
        self.closed = False
        self.done = True
        self.keep = False
        self.used = 0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.deadline = self.expires = float("inf")

    # What the proxy calls

    async def ask(self, head: bytes, body: bytes) -> int:
        """Sends a request; the answer's status once its headers are there. Raises Died."""
        self._chunks.clear()
        self._size = self._head_size = self._fruitless = 0
        self.headers = []
        self.done = self.keep = self._until_close = False
        self.used += 1
        if self.closed:
            raise Died("the connection was closed", silent=True)
        self.deadline = self._loop.time() + self.pool.response_timeout
        if len(body) < HIGH_WATER:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))  # spares a copy of the body
        self._head = self._loop.create_future()
        await self._head
        return self.status

    async def read(self) -> bytes:
        """What has come of the answer's body, at least one byte; b"" at its end. Raises Died if it breaks off."""
        while not self._chunks and not self.done:
            if self._death is not None:
                raise self._death
            self._waiter = self._loop.create_future()
            await self._waiter
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        if self._paused and not self.closed:
            self._paused = False
            self.deadline = self._loop.time() + self.pool.stall_timeout
            self._transport.resume_reading()
        return data

    @property
    def ended(self) -> bool:
        """Whether `read` has given the whole answer."""
        return self.done and not self._chunks

    @property
    def reusable(self) -> bool:
        """Whether another exchange can follow: this one ended as HTTP has it, and the engine took the whole request."""
        return self.keep and self.done and not self.closed and not self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Closes at once; the engine sees it and stops its work."""
        self.closed = True
        self._transport.abort()

    def fail(self, reason: str, *, timed_out: bool = False) -> None:
        """Ends the exchange with Died and closes."""
        self._die(Died(reason, silent=not self._head_size, timed_out=timed_out))
        self.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a TCP connection's transport is a Transport

    def data_received(self, data: bytes) -> None:
        if self.done:  # an answer nobody asked for
            self.abort()
            return
        in_head, size = self._head is not None, self._size
        if in_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(f"the engine's answer is not HTTP: {error.__context__ or error}")
            return
        self._fruitless = 0 if in_head or self._size > size else self._fruitless + len(data)
        if self._fruitless > MAX_HEAD or (self._head is not None and self._head_size > MAX_HEAD):
            self.fail(f"the engine sent more than {MAX_HEAD} bytes of headers or trailers")
            return
        if self._size > HIGH_WATER and not self._paused and not self.done:
            self._paused = True
            self.deadline = float("inf")  # it is the client that is slow
            self._transport.pause_reading()
        elif self._head is None and not self.done:
            self.deadline = self._loop.time() + self.pool.stall_timeout
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.pool.lost(self)
        if self._until_close and exc is None:
            self.done = True
            self._wake()
        elif not self.done:
            self._die(Died(str(exc or "the engine closed the connection"), silent=not self._head_size))

    # What httptools calls

    def on_message_begin(self) -> None:
        if self.done:
            raise ValueError("something follows its end")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is not None:  # trailers are dropped
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:  # informational: the answer proper follows
            self.headers = []
            return
        if self.status > 599:
            raise ValueError(f"its status is {self.status}")
        names = {name for name, _ in self.headers}
        self._until_close = not names & {b"content-length", b"transfer-encoding"} and self.status not in (204, 304)
        if self._head is not None and not self._head.done():
            self._head.set_result(None)
        self._head = None

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if self._head is None:
            self.done = True
            self.keep = self._parser.should_keep_alive()
            self.deadline = float("inf")

    def _wake(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None

    def _die(self, death: Died) -> None:
        self._death = self._death or death
        if self._head is not None and not self._head.done():
            self._head.set_exception(death)
        self._wake()


class Pool:
    """The connections to one address. `idle` and `reuse`: how long and how often the engine lets one be used."""

    def __init__(
        self,
        address: Address,
        *,
        idle: float,
        reuse: int,
        connect_timeout: float,
        response_timeout: float,
        stall_timeout: float,
    ) -> None:
        self.address, self.idle_time, self.reuse = address, idle, reuse
        self.connect_timeout, self.response_timeout, self.stall_timeout = (
            connect_timeout,
            response_timeout,
            stall_timeout,
        )
        self.loop = asyncio.get_running_loop()
        self.idle: list[Connection] = []
        self.busy: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = ssl.create_default_context() if address.tls else None

    def __repr__(self) -> str:
        return f"<Pool {self.address} idle={len(self.idle)} busy={len(self.busy)}>"

    def take(self) -> Connection | None:
        """An idle connection that the engine has no reason to close yet."""
        now = self.loop.time()
        while self.idle:
            connection = self.idle.pop()
            if connection.expires > now and not connection.closed:
                self.busy.add(connection)
                return connection
            connection.abort()
        return None

    async def open(self) -> Connection:
        """A new connection. Raises ConnectFailed."""
        factory: Callable[[], Connection] = lambda: Connection(self)  # noqa: E731
        try:
            async with asyncio.timeout(self.connect_timeout):
                _, connection = await self.loop.create_connection(
                    factory, self.address.host, self.address.port, ssl=self._tls
                )
        except TimeoutError:
            raise ConnectFailed(f"no connection within {self.connect_timeout:g} s") from None
        except OSError as error:
            raise ConnectFailed(error.strerror or str(error)) from None
        self.busy.add(connection)
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(SWEEP, self._sweep)
        return connection

    def give_back(self, connection: Connection) -> None:
        """After an exchange: kept for the next one if it can be, else closed, whatever state it is in."""
        self.busy.discard(connection)
        used_up = self.reuse and connection.used >= self.reuse
        if connection.reusable and not used_up:
            connection.expires = self.loop.time() + self.idle_time
            self.idle.append(connection)
        else:
            connection.abort()

    def lost(self, connection: Connection) -> None:
        """The engine closed a connection."""
        if connection in self.idle:
            self.idle.remove(connection)

    def close(self) -> None:
        """Closes all that is idle. Exchanges go on to their end."""
        for connection in self.idle:
            connection.abort()
        self.idle.clear()
        self.idle_time = 0.0

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in [connection for connection in self.idle if connection.expires <= now]:
            self.idle.remove(connection)
            connection.abort()
        for connection in [connection for connection in self.busy if connection.deadline <= now]:
            connection.fail("the engine is silent for too long", timed_out=True)
        self._sweeper = self.loop.call_later(SWEEP, self._sweep) if self.idle or self.busy else None

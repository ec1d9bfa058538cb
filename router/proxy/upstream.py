"""A connection to an engine: HTTP/1.1 on `asyncio.Protocol` and `httptools`, one exchange at a time.

Why not a library: the measurements in ARCHITECTURE.md.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Protocol

import httptools

from router.errors import UpstreamError, UpstreamTimeout
from router.proxy.again import Again
from router.proxy.headers import Headers, by_name

MAX_HEAD = 65536
"""Bytes of headers an engine may send."""

_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})\r\n")


class ConnectFailed(Exception):
    """No connection could be opened, so no byte was sent. `own`: for want of something on this machine."""

    def __init__(self, reason: str, *, own: bool = False) -> None:
        super().__init__(reason)
        self.own = own

    def told(self, model: str) -> UpstreamError:
        """As the client is told, by the model's public name."""
        return UpstreamError(f"the engine of model '{model}' failed: {self}; try again", retry_after=1)


class Died(Exception):
    """The exchange cannot go on. `silent`: not one byte of an answer had come. `timed_out`: the engine was too slow."""

    def __init__(self, reason: str, *, silent: bool = False, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.silent, self.timed_out = silent, timed_out

    def told(self, model: str) -> UpstreamError:
        """As the client is told, by the model's public name."""
        if self.timed_out:
            return UpstreamTimeout(f"the engine of model '{model}' did not answer in time: {self}")
        return UpstreamError(f"the engine of model '{model}' failed: {self}; try again", retry_after=1)


class Head:
    """An answer's status and headers. Nothing of it changes, but what the relay has found in it: `relayed` is its own.

    `length` of the body, None where it has framing of its own, or the connection's end.
    """

    __slots__ = ("chunked", "fields", "headers", "keep", "length", "relayed", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, headers
        fields = self.fields = by_name(headers)
        coding = fields.get(b"transfer-encoding", b"").lower()
        self.chunked = coding.endswith(b"chunked")
        has_length = not coding and b"content-length" in fields
        self.length = int(fields[b"content-length"]) if has_length else None
        self.keep = True
        self.relayed: object = None

    @property
    def framed(self) -> bool:
        """Whether its end can be told from the connection's."""
        return self.chunked or self.length is not None or self.status in (204, 304)

    @property
    def retry_after(self) -> float:
        """In seconds; 0.0 where the engine does not say, or gives a date."""
        value = self.fields.get(b"retry-after", b"")
        return float(value) if value.isdigit() else 0.0


class Sink(Protocol):
    """Whoever asked."""

    def arrived(self, data: bytes, *, done: bool) -> None:
        """The head at first, with or without data; then data; then, with or without any, the end."""

    def broke(self, death: Died) -> None:
        """Nothing more comes. The connection is of no further use."""


class Feeder(Protocol):
    """Who asked with a request whose end has not come."""

    def full(self) -> None:
        """The engine does not take it as fast as it comes: no more for now."""

    def drained(self) -> None: ...


class Switch(Protocol):
    """Who asked for another protocol."""

    def switched(self, connection: "Connection", rest: bytes) -> None:
        """The engine has said 101, and `rest` behind its head. It is to be taken over by `surrender`."""


class Owner(Protocol):
    """The pool, as far as a connection goes. Times in seconds."""

    loop: asyncio.AbstractEventLoop
    response_timeout: float
    stall_timeout: float
    again: Again[Head] | None
    misses: int
    signature: bytes

    def remember(self, data: bytes, head: Head) -> None: ...
    def give_back(self, connection: "Connection") -> None: ...
    def lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """One connection to an engine. `ask` sends a request; the answer, whose `head` is there from the first call on, is
    told to the sink as it comes. Callbacks rather than a coroutine to be woken: a piece of a stream costs a third less.
    """

    __slots__ = (
        "_between", "_chunks", "_feeder", "_fruitless", "_head_size", "_headers", "_in_head", "_loop", "_parser",
        "_paused", "_sink", "_switch", "_transport", "_until_close", "closed", "deadline", "done", "expires", "head",
        "keep", "length", "pool", "used",
    )  # fmt: skip

    def __init__(self, pool: Owner) -> None:
        self.pool = pool
        self._loop = pool.loop
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._sink: Sink | None = None
        self._feeder: Feeder | None = None
        self._switch: Switch | None = None
        self._chunks: list[bytes] = []
        self._head_size = self._fruitless = 0
        self._in_head = self._paused = self._until_close = self._between = False
        self.closed = False
        self.done = True
        self.keep = False
        self.used = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self.head = NONE
        self.length: int | None = None
        """Of the body, if that is known beforehand."""
        self.deadline = self.expires = float("inf")

    # What the proxy calls

    def ask(
        self,
        sink: Sink,
        request: Sequence[bytes | memoryview],
        *,
        feeder: Feeder | None = None,
        switch: Switch | None = None,
    ) -> None:
        """Sends a request, in as many pieces as it has. Raises Died.

        With a `feeder` it goes on with `more`, up to `end`: the engine's time to answer counts from there, or from when
        it takes no more. A `switch` is told of a 101, which is an error for everybody else.
        """
        if self.closed:
            raise Died("the connection was closed", silent=True)
        self._head_size = self._fruitless = 0
        self._in_head = True
        self.done = self.keep = self._until_close = self._between = False
        self.used += 1
        self._sink, self._feeder, self._switch = sink, feeder, switch
        self.deadline = self._loop.time() + self.pool.response_timeout if feeder is None else float("inf")
        if len(request) == 1:
            self._transport.write(request[0])
        else:
            self._transport.writelines(request)  # spares a copy of the body

    def more(self, pieces: Sequence[bytes]) -> None:
        """Of the request, framed as its head says."""
        if not self.closed:
            self._transport.writelines(pieces)

    def end(self) -> None:
        """The request is whole."""
        self._feeder = None
        if self._in_head:
            self.deadline = self._loop.time() + self.pool.response_timeout

    def surrender(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """The transport, which is that protocol's from here on, and no longer the pool's."""
        self.closed = True
        self._sink = self._switch = self._parser = None
        self.pool.lost(self)
        self._transport.set_protocol(protocol)
        return self._transport

    @property
    def reusable(self) -> bool:
        """Whether another exchange can follow: this one ended as HTTP has it, and the engine took the whole request."""
        whole = self.keep and self.done and self._feeder is None
        return whole and not self.closed and not self._transport.get_write_buffer_size()

    def pause(self) -> None:
        """The client is slow: the engine's socket is not read, and its silence no fault."""
        if not self._paused and not self.closed:
            self._paused = True
            self.deadline = float("inf")
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if not self.closed:
                self.deadline = self._loop.time() + self.pool.stall_timeout
                self._transport.resume_reading()

    def leave(self) -> None:
        """The sink wants no more of it."""
        self._sink = self._switch = None
        if self._paused:
            self.resume()

    def abort(self) -> None:
        """Closes at once; the engine sees it and stops its work."""
        self.closed = True
        self._sink = self._feeder = self._switch = None
        self._transport.abort()

    def fail(self, reason: str, *, timed_out: bool = False) -> None:
        """Ends the exchange with Died and closes."""
        sink = self._sink
        silent = not self._head_size
        self.abort()
        if sink is not None:
            sink.broke(Died(reason, silent=silent, timed_out=timed_out))

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a TCP connection's transport is a Transport

    def pause_writing(self) -> None:
        if self._feeder is not None:
            if self._in_head:
                self.deadline = self._loop.time() + self.pool.response_timeout
            self._feeder.full()

    def resume_writing(self) -> None:
        if self._feeder is not None:
            if self._in_head:
                self.deadline = float("inf")
            self._feeder.drained()

    def data_received(self, data: bytes) -> None:
        if self._between and (chunk := _CHUNK.match(data)) is not None:
            # One whole chunk, not the last, as pieces of a stream mostly are: it need not be parsed.
            size, start = int(chunk[1], 16), chunk.end()
            if size and len(data) == start + size + 2 and data.endswith(b"\r\n"):
                if self._sink is not None:
                    self.deadline = self._loop.time() + self.pool.stall_timeout
                    self._sink.arrived(data[start:-2], done=False)
                return
        if self.done:  # an answer nobody asked for
            self.abort()
            return
        if self._in_head and not self._head_size:
            again = self.pool.again
            if again is not None and (start := again.body_at(data)):
                self.pool.misses = 0
                self._take_whole(again.found, data, start)
                return
        self._read(data)

    def _take_whole(self, head: Head, data: bytes, start: int) -> None:
        """An answer in one piece, whose head is known."""
        self.head = head
        self.length = len(data) - start
        self._in_head = False
        self.done = self.keep = True
        self._head_size = start
        if self._sink is not None:
            self._tell(self._sink, data[start:])

    def _read(self, data: bytes) -> None:
        in_head = self._in_head
        fresh = in_head and not self._head_size
        if in_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._switch is None:
                self._refuse(upgrade)
            else:
                self._switch.switched(self, data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._refuse(error)
            return
        if self._chunks or self.done:
            self._fruitless = 0
        else:
            self._fruitless += len(data)
            if self._fruitless > MAX_HEAD:
                self.fail(f"the engine sent more than {MAX_HEAD} bytes of headers or trailers")
                return
        if self._in_head:
            return
        if fresh and self.done and self.keep:
            self.pool.remember(data, self.head)
        self._between = self._between and data.endswith(b"\r\n")
        self.deadline = self._loop.time() + self.pool.stall_timeout
        if (in_head or self._chunks or self.done) and self._sink is not None:
            self._tell(self._sink, self._take())

    def _take(self) -> bytes:
        chunks = self._chunks
        if len(chunks) == 1:
            return chunks.pop()
        data = b"".join(chunks)
        chunks.clear()
        return data

    def _refuse(self, error: Exception) -> None:
        if self.done and self._sink is not None:  # the answer is whole, what follows it is nobody's
            self.keep = False
            self._tell(self._sink, self._take())
        else:
            self.fail(f"the engine's answer is not HTTP: {error.__context__ or error}")

    def _tell(self, sink: Sink, data: bytes) -> None:
        if self.done:
            self._sink = None
            self.deadline = float("inf")
        sink.arrived(data, done=self.done)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._parser = None  # it holds this object, and nobody looks for cycles often
        self.pool.lost(self)
        sink, self._sink = self._sink, None
        self._feeder = self._switch = None
        if sink is None:
            return
        if self._until_close and exc is None:
            self.done = True
            sink.arrived(b"", done=True)
        else:
            sink.broke(Died(str(exc or "the engine closed the connection"), silent=not self._head_size))

    # What httptools calls

    def on_message_begin(self) -> None:
        if self.done:
            raise ValueError("something follows its end")
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []  # where trailers go
        if status == 101 and self._switch is not None and self._parser.should_upgrade():
            self.head = Head(status, headers)
        if status < 200:  # informational: the answer proper follows
            return
        if status > 599:
            raise ValueError(f"its status is {status}")
        head = self.head = Head(status, headers)
        head.keep = self._parser.should_keep_alive()
        self.length = head.length
        self._until_close = not head.framed
        self._between = head.chunked
        self._in_head = False

    def on_chunk_header(self) -> None:
        self._between = False

    def on_chunk_complete(self) -> None:
        self._between = True

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        if not self._in_head:
            self.done = True
            self._between = False
            self.keep = self._parser.should_keep_alive()


NONE = Head(0, ())
"""Of an answer that has not come."""

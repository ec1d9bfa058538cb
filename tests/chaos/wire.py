"""One client's connection on a bare socket: what came, and how far it got when it broke."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import httptools
import msgspec

PATIENCE = 90.0
"""Seconds a client waits for a whole answer: longer than the router's own times."""


class Reply(msgspec.Struct):
    """`began` and `ended` are on the monotonic clock. `broken` is None, or how the connection failed: `refused`,
    `silent` (it ended without a byte of an answer), `torn` (it ended within the answer), `garbled` (it was no HTTP),
    `timeout`."""

    status: int = 0
    headers: dict[str, str] = {}
    body: bytes = b""
    began: float | None = None
    ended: float = 0.0
    complete: bool = False
    broken: str | None = None


class Wire:
    """To a port of this machine or a unix socket; kept open from one answer to the next. `used`: how many answers it
    has brought."""

    def __init__(self, where: int | Path, key: str = "") -> None:
        self.used, self.open = 0, False
        self._where = where
        self._key = f"authorization: Bearer {key}\r\n" if key else ""
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._reply = Reply()

    async def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Reply:
        reply = self._reply = Reply(headers={})
        try:
            async with asyncio.timeout(PATIENCE):
                await self._exchange(method, path, body, headers)
        except TimeoutError:
            reply.broken = "timeout"
        except httptools.HttpParserError:
            reply.broken = "garbled"
        except OSError:
            reply.broken = ("silent" if reply.began is None else "torn") if self.open else "refused"
        reply.ended = time.monotonic()
        self.used += 1
        if reply.broken or not reply.complete or reply.headers.get("connection") == "close":
            await self.close()
        return reply

    async def _exchange(self, method: str, path: str, body: bytes, headers: str) -> None:
        if not self.open:
            self._reader, self._writer = await self._connect()
            self.open = True
        length = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{self._key}{headers}{length}\r\n"
        self._writer.write(head.encode() + body)
        parser = httptools.HttpResponseParser(self)
        while not self._reply.complete:
            data = await self._reader.read(1 << 16)
            if not data:
                raise ConnectionResetError
            if self._reply.began is None:
                self._reply.began = time.monotonic()
            parser.feed_data(data)
            self._reply.status = self._reply.status or parser.get_status_code()

    @property
    def ended(self) -> bool:
        """The other side has ended it."""
        return self._reader.at_eof() or self._reader.exception() is not None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._where, int):
            return await asyncio.open_connection("127.0.0.1", self._where)
        return await asyncio.open_unix_connection(self._where)

    async def close(self) -> None:
        if self.open:
            self.open = False
            self._writer.close()
            with suppress(OSError):  # it broke before
                await self._writer.wait_closed()

    # What the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        self._reply.headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self._reply.body += data

    def on_message_complete(self) -> None:
        self._reply.complete = True


async def get(where: int | Path, path: str, key: str = "") -> Reply:
    """One request on a connection of its own."""
    wire = Wire(where, key)
    try:
        return await wire.ask("GET", path)
    finally:
        await wire.close()

"""A foreign server on a port that an engine had, or is about to have: friendly to everybody, and wrong."""

import asyncio
from contextlib import suppress

BODY = (
    b'{"id":"stolen","object":"chat.completion","model":"stolen","data":[{"index":0,"embedding":[0.5]}],'
    b'"choices":[{"index":0,"text":"stolen","message":{"role":"assistant","content":"stolen"},"finish_reason":"stop"}]}'
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
TRIES = 200


class Thief:
    """Listens while it is entered, if it gets the port at all: `has_it`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.has_it = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "Thief":
        for _ in range(TRIES):
            try:
                self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
            except OSError:  # whoever has it has not let go of it yet
                await asyncio.sleep(0)
                continue
            self.has_it = True
            break
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            await asyncio.gather(*map(_close, self._writers))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError):
            while await reader.read(1 << 16):
                writer.write(ANSWER)
        self._writers.discard(writer)
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()

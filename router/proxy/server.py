"""The listening side: uvicorn's server with our protocol, as a part of a program that minds its signals itself."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from router.proxy.client import ClientProtocol, Limits, Plane

BACKLOG = 2048
"""Connections that may wait to be taken."""
KEEP_ALIVE = 75
"""Seconds a client's connection may stay without a whole head of a request."""
LAST_WORDS = 1.0
"""Seconds the clients have to take the ends of their answers when the time to drain is over."""


class Server(uvicorn.Server):
    """Serves `plane`, and `app` for what it leaves, on the sockets given to `serve`. `drain`: how many seconds requests
    in flight may go on when it ends."""

    def __init__(self, app: ASGIApp, limits: Limits, *, plane: Plane | None = None, drain: float) -> None:
        settings = uvicorn.Config(
            app,
            http=partial(ClientProtocol, plane=plane, limits=limits),  # type: ignore[arg-type]  # it is only called
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
        )
        super().__init__(settings)
        self.set_drain(drain)
        self._retired = False

    def hurry(self) -> None:
        """Ends it now: requests in flight are told that the router is shutting down."""
        self.should_exit = self.force_exit = True

    def retire(self) -> None:
        """Takes no new connection and ends with the last of those there are, however long that takes. Each gets one
        more answer, and is told that it is the last, so that no client finds its connection closed under a request."""
        for server in self.servers:
            server.close()
        self._retired = self.should_exit = True
        self.config.timeout_graceful_shutdown = None

    def set_drain(self, drain: float) -> None:
        self.config.timeout_graceful_shutdown = drain  # type: ignore[assignment]  # it takes fractions as well

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            now = asyncio.get_running_loop().time()
            for connection in self._connections():
                connection.look(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._retired:
            for connection in self._connections():
                connection.retire()
        await super().shutdown(sockets)
        for connection in self._connections():
            connection.give_up()
        loop = asyncio.get_running_loop()
        end = loop.time() + LAST_WORDS
        while self.server_state.connections and loop.time() < end:  # noqa: ASYNC110 - they are uvicorn's to count
            await asyncio.sleep(0.01)
        for connection in self._connections():
            connection.transport.abort()

    def _connections(self) -> list[ClientProtocol]:
        return list(self.server_state.connections)  # type: ignore[arg-type]  # it holds what `http` makes

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

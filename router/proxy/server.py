"""The listening side: uvicorn, as a part of a program that minds its signals itself."""

import math
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from router.proxy.asgi import App
from router.proxy.protocol import ClientProtocol

KEEP_ALIVE = 75
"""Seconds a client's connection may stay without a whole head of a request."""


class Server(uvicorn.Server):
    """Serves `app` on the sockets given to `serve`, or on the unix socket `uds`. After `should_exit` requests may go on
    for `drain` seconds."""

    def __init__(self, app: App, *, drain: float, uds: str | None = None) -> None:
        settings = uvicorn.Config(
            app,
            uds=uds,
            http=ClientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=2048,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, math.ceil(drain)),
        )
        super().__init__(settings)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

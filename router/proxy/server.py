"""The listening side: uvicorn, as a part of a program that minds its signals itself."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

import uvicorn

from router.proxy.asgi import App
from router.proxy.protocol import ClientProtocol

BACKLOG = 2048
"""Connections that may wait to be taken."""
KEEP_ALIVE = 75
"""Seconds a client's connection may stay without a whole head of a request."""


class Server(uvicorn.Server):
    """Serves `app` on the sockets given to `serve`. In seconds, `drain`: how long requests in flight may go on when it
    ends; `send_timeout`: how long a client may leave its answer unread."""

    def __init__(self, app: App, *, drain: float, send_timeout: float) -> None:
        settings = uvicorn.Config(
            app,
            http=partial(ClientProtocol, send_timeout=send_timeout),  # type: ignore[arg-type]  # it is only called
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
        settings.timeout_graceful_shutdown = drain  # type: ignore[assignment]  # it takes fractions as well
        super().__init__(settings)

    def hurry(self) -> None:
        """Ends it now: requests in flight are told that the router is shutting down."""
        self.should_exit = self.force_exit = True
        for task in self.server_state.tasks:
            task.cancel()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

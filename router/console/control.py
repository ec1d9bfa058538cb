"""The running router's own unix socket: what `router ps` and `router down` ask. The state folder's permissions say who
may open it; it cannot be reached by TCP."""

import os
from collections.abc import Callable
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.fleet.rows import Info, Row


class Source(Protocol):
    """Where the rows come from."""

    def rows(self) -> list[Row]: ...


def control_app(source: Source, info: Info, stop: Callable[[], None]) -> Starlette:
    """GET /info, GET /engines, POST /stop."""

    async def get_info(_request: Request) -> Response:
        return _json(info)

    async def get_engines(_request: Request) -> Response:
        return _json(source.rows())

    async def post_stop(_request: Request) -> Response:
        stop()
        return _json({"stopping": os.getpid()})

    return Starlette(
        routes=[
            Route("/info", get_info),
            Route("/engines", get_engines),
            Route("/stop", post_stop, methods=["POST"]),
        ]
    )


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")

"""The running router's own unix socket: what `router ps` and `router down` ask. Only its owner may open it, and it
cannot be reached by TCP."""

from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.fleet.rows import Info, Row


class Controlled(Protocol):
    """The router, as far as its commands go."""

    def rows(self) -> list[Row]: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


def control_app(router: Controlled, info: Info) -> Starlette:
    """GET /info, GET /engines, POST /stop, POST /kill."""

    async def get_info(_request: Request) -> Response:
        return _json(info)

    async def get_engines(_request: Request) -> Response:
        return _json(router.rows())

    async def post_stop(_request: Request) -> Response:
        router.stop()
        return _json(info)

    async def post_kill(_request: Request) -> Response:
        router.kill()
        return _json(info)

    return Starlette(
        routes=[
            Route("/info", get_info),
            Route("/engines", get_engines),
            Route("/stop", post_stop, methods=["POST"]),
            Route("/kill", post_kill, methods=["POST"]),
        ]
    )


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")

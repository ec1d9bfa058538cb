"""The running router's own unix socket: what its commands ask. Only its owner may open it, and it cannot be reached by
TCP."""

from pathlib import Path
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.fleet.rows import Info, Plan, Row


class Refused(Exception):
    """What was asked is not done. The message says why, for people."""


class Controlled(Protocol):
    """The router, as far as its commands go."""

    def rows(self) -> list[Row]: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    async def plan(self, file: Path) -> Plan:
        """Raises Refused."""

    async def apply(self, file: Path) -> Plan:
        """Raises Refused, and nothing has changed."""

    async def hand_over(self, path: Path) -> None: ...


class Named(msgspec.Struct):
    """The absolute path that a command names."""

    path: str


def control_app(router: Controlled, info: Info) -> Starlette:
    """GET /info, GET /engines, POST /stop, /kill, /plan, /apply, /takeover."""

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

    async def post_plan(request: Request) -> Response:
        return _json(await router.plan(await _named(request)))

    async def post_apply(request: Request) -> Response:
        return _json(await router.apply(await _named(request)))

    async def post_takeover(request: Request) -> Response:
        return _json(info, BackgroundTask(router.hand_over, await _named(request)))

    return Starlette(
        routes=[
            Route("/info", get_info),
            Route("/engines", get_engines),
            Route("/stop", post_stop, methods=["POST"]),
            Route("/kill", post_kill, methods=["POST"]),
            Route("/plan", post_plan, methods=["POST"]),
            Route("/apply", post_apply, methods=["POST"]),
            Route("/takeover", post_takeover, methods=["POST"]),
        ],
        exception_handlers={Refused: _refused},
    )


async def _named(request: Request) -> Path:
    try:
        path = msgspec.json.decode(await request.body(), type=Named).path
    except msgspec.MsgspecError as error:
        raise Refused(f"the command cannot be read ({error}); is it of another version?") from None
    if "\0" in path or not path.startswith("/"):
        raise Refused("the command names no absolute path")
    return Path(path)


async def _refused(_request: Request, error: Exception) -> Response:
    return Response(str(error), status_code=409, media_type="text/plain")


def _json(value: object, background: BackgroundTask | None = None) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", background=background)

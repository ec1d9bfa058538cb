"""The paths that are answered by the router itself: health, readiness, metrics, the list of models."""

import difflib
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.catalog import Catalog, Model
from router.console.metrics import Metrics
from router.errors import MethodNotAllowed, NotFound, RouterError
from router.proxy.paths import OPEN, PATHS

PATHS_SERVED = (*PATHS, "/v1/models", "/metrics", *OPEN)


class Public:
    """Handlers over one catalogue."""

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self.catalog, self.metrics = catalog, metrics

    def app(self) -> Starlette:
        app = Starlette(
            routes=[
                Route("/health", _health),
                Route("/ready", self.ready),
                Route("/metrics", self.metrics.answer),
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}", self.model),
            ],
            exception_handlers={HTTPException: _http_error, RouterError: _router_error},
        )
        app.router.redirect_slashes = False
        return app

    async def ready(self, _request: Request) -> Response:
        """200 once every declared model has a replica, else 503 with what is missing and why."""
        missing = {model.name: model.reason for model in self.catalog if not model.ready}
        body = {"status": "not_ready" if missing else "ready", "missing": missing}
        return JSONResponse(
            body, status_code=503 if missing else 200, headers={"retry-after": "2"} if missing else None
        )

    async def models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._entry(name) for name in self.catalog.names]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.catalog.resolve(name)
        return JSONResponse(self._entry(name))

    def _entry(self, name: str) -> dict[str, Any]:
        return describe(self.catalog.resolve(name), name)


def describe(model: Model, name: str) -> dict[str, Any]:
    """A model in OpenAI's shape, its kind, and whether it can serve now; `root` is the name that an alias leads to."""
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": model.engine,
        "root": model.name,
        "kind": model.kind,
        "ready": model.ready,
    }


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _render(error: RouterError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers()}
    return Response(error.envelope(), status_code=error.status, headers=headers)


async def _router_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RouterError)  # noqa: S101 - registered for it alone
    return _render(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in OpenAI's envelope."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    path = request.scope["path"]  # `request.url` would read the client's `Host` too, and choke on a bad one
    if error.status_code == 405:
        allow = ", ".join(sorted((error.headers or {})["Allow"].split(", ")))
        return _render(MethodNotAllowed(f"{path} takes {allow}, not {request.method}", allow=allow))
    near = difflib.get_close_matches(path[:100], PATHS_SERVED, n=1, cutoff=0.7)
    remedy = f"did you mean {near[0]}?" if near else "GET /v1/models lists the models, and the README the paths"
    return _render(NotFound(f"no such path: {request.method} {path}; {remedy}"))

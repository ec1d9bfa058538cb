"""The paths that are answered by the router itself: health, readiness, metrics, the models, and Xinference's others."""

import difflib
from collections.abc import Awaitable, Callable, Iterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.catalog import Catalog
from router.console.cluster import Cluster
from router.console.house import House
from router.console.life_cycle import LifeCycle
from router.console.metrics import Metrics
from router.console.records import Records
from router.errors import MethodNotAllowed, NotFound, RouterError
from router.fleet.facts import Facts
from router.proxy.paths import OPEN, PATHS

MODELS = ("/models", "/v1/v1/models", "/anthropic/v1/models", "/anthropic/models")
"""Other spellings of `/v1/models`, for reading."""
PATHS_SERVED = (*PATHS, "/v1/models", "/v1/cluster/info", "/v1/cluster/version", "/status", "/metrics", *OPEN)

Handler = Callable[[Request], Awaitable[Response]]


class Public:
    """Handlers over one catalogue, and over the `house` behind it; without one there is nothing to start and stop, and
    of the models nothing is known but what the catalogue has."""

    def __init__(self, catalog: Catalog, metrics: Metrics, house: House | None = None) -> None:
        self.catalog, self.metrics, self._house = catalog, metrics, house
        self.records = Records(catalog, house.facts if house else _nothing)

    def app(self) -> Starlette:
        app = Starlette(
            routes=[*self._routes()],
            exception_handlers={HTTPException: _http_error, RouterError: _router_error},
        )
        app.router.redirect_slashes = False
        return app

    def _routes(self) -> Iterator[Route]:
        yield Route("/health", _health)
        yield Route("/ready", self.ready)
        yield Route("/metrics", self.metrics.answer)
        for path in MODELS:
            yield Route(path, self.records.answer_all)
            yield Route(f"{path}/{{name:path}}", self.records.answer_one)
        if self._house is None:
            yield Route("/v1/models", self.records.answer_all)
            yield Route("/v1/models/{name:path}", self.records.answer_one)
            return
        cluster = Cluster(self.catalog, self._house, self.records)
        yield from _of_cluster(cluster)
        yield from _of_models(self.records, cluster, LifeCycle(self.catalog, self._house))

    async def ready(self, _request: Request) -> Response:
        """200 once every declared model has a replica, but for those that were terminated, else 503 with what is
        missing and why."""
        missing = {model.name: model.reason for model in self.catalog if not model.ready and not model.stopped}
        body = {"status": "not_ready" if missing else "ready", "missing": missing}
        return JSONResponse(
            body, status_code=503 if missing else 200, headers={"retry-after": "2"} if missing else None
        )


def _of_models(records: Records, cluster: Cluster, life: LifeCycle) -> Iterator[Route]:
    """The more special path comes first: a name may hold slashes."""
    yield _route("/v1/models", GET=records.answer_all, POST=life.launch)
    yield Route("/v1/models/instances", cluster.instances)
    yield Route("/v1/models/{name:path}/replicas", cluster.replicas)
    yield Route("/v1/models/{name:path}/progress", cluster.progress)
    yield Route("/v1/models/{name:path}/events", cluster.events)
    yield _route("/v1/models/{name:path}/cancel", POST=cluster.cancel)
    yield _route("/v1/models/{name:path}/requests/{request}/abort", POST=cluster.abort)
    yield _route("/v1/models/{name:path}", GET=records.answer_one, DELETE=life.terminate)


def _of_cluster(cluster: Cluster) -> Iterator[Route]:
    yield Route("/status", cluster.status)
    for path in ("/v1/cluster/auth", "/v1/v1/cluster/auth"):
        yield Route(path, cluster.auth)
    yield Route("/v1/cluster/info", cluster.info)
    yield Route("/v1/cluster/version", cluster.version)
    yield Route("/v1/model_registrations/{type}", cluster.registrations)
    yield Route("/v1/model_registrations/{type}/{name:path}", cluster.registration)


def _route(path: str, **handlers: Handler) -> Route:
    """A path with a handler for each method; one for all, so that a 405 names all of them."""

    async def answer(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, answer, methods=list(handlers))


async def _nothing(_name: str) -> Facts:
    return Facts()


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

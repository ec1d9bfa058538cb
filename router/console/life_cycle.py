"""Launching and terminating declared models, as Xinference's clients do it."""

import ipaddress
from contextlib import suppress
from typing import Any

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router.catalog import Catalog, Model
from router.console.house import Engines
from router.errors import Forbidden, InvalidRequest, ModelNotFound, Unavailable, UnsupportedMedia

LOOK = 0.1
"""Seconds between two looks at the engines."""
RETRY_AFTER = 10
"""Seconds, of a model whose engine fails."""
_FORWARDED = ("forwarded", "via", "x-forwarded-", "x-real-ip")
"""How the header lines begin by which a proxy tells of itself."""


class Wish(msgspec.Struct):
    """The body of a launch. How a model runs stands in the router's file, so that all else is passed over."""

    model_uid: str | None = None
    model_name: str | None = None


class LifeCycle:
    """Who may: holders of an admin key; where no keys are declared, programs on this machine, and no web pages."""

    def __init__(self, catalog: Catalog, engines: Engines) -> None:
        self._catalog, self._engines = catalog, engines

    async def launch(self, request: Request) -> Response:
        """Answers once the model serves; with `wait_ready=false` at once. One whose engine fails is tried again, and
        that is a 503."""
        self._admit(request)
        model = self._declared(_name(await request.body()))
        if not self._engines.start_model(model.name):
            raise _not_ours(model.name)
        if request.query_params.get("wait_ready", "true").lower() not in ("false", "0"):
            await self._until_ready(request, model)
        return JSONResponse({"model_uid": model.name})

    async def terminate(self, request: Request) -> Response:
        """Answers once its engines have ended, and with them the requests that they had begun."""
        self._admit(request)
        model = self._declared(request.path_params["name"])
        if not self._engines.stop_model(model.name):
            raise _not_ours(model.name)
        while model.stopped and self._states(model) - {"stopped"} and not await request.is_disconnected():  # noqa: ASYNC110
            await anyio.sleep(LOOK)  # the fleet can be asked; it tells nobody
        return JSONResponse(None)

    def _declared(self, name: str) -> Model:
        try:
            entry = self._catalog.entry(name)
        except ModelNotFound as error:
            message = f"{error.message} Only models that the router's file declares can be launched or terminated."
            raise ModelNotFound(message, param="model_uid") from None
        if not isinstance(entry, Model):
            members = ", ".join(member for member, _ in entry.members)
            raise InvalidRequest(f"'{name}' is a group of models: name one of {members}", param="model_uid")
        return entry

    async def _until_ready(self, request: Request, model: Model) -> None:
        while not model.ready and not await request.is_disconnected():
            if model.stopped or "failed" in self._states(model):
                raise Unavailable(f"model '{model.name}' is not ready: {model.reason}", retry_after=RETRY_AFTER)
            await anyio.sleep(LOOK)

    def _states(self, model: Model) -> set[str]:
        return {row.state for row in self._engines.rows() if row.model == model.name}

    def _admit(self, request: Request) -> None:
        """Raises Forbidden and UnsupportedMedia."""
        if self._engines.guarded:
            if not getattr(request.state, "admin", False):
                raise Forbidden("only a key with `admin: true` may launch and terminate models")
        elif not _is_local(request):
            raise Forbidden(
                "models are launched and terminated from the router's own machine, by its address; declare `keys`, one "
                "of them with `admin: true`, to do it from elsewhere"
            )
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.method == "POST" and kind != "application/json":
            raise UnsupportedMedia("send JSON, with `Content-Type: application/json`")


def _is_local(request: Request) -> bool:
    """Asked from this machine, by no proxy, and under a name that no other machine's DNS could have led here: the
    browser of somebody on this machine lets any page ask the page's own host name."""
    client: Any = request.scope.get("client") or ("",)
    host = request.headers.get("host", "")
    return (
        _is_loopback(client[0])
        # So nginx speaks to what is behind it where nobody tells it otherwise, and then adds no such line.
        and request.scope["http_version"] != "1.0"
        and not any(name.startswith(_FORWARDED) for name in request.headers)
        and (_without_port(host).lower() == "localhost" or _address(_without_port(host)) is not None)
    )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(text: str) -> bool:
    address = _address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with suppress(ValueError):
        return ipaddress.ip_address(text)
    return None


def _name(body: bytes) -> str:
    try:
        wish = msgspec.json.decode(body, type=Wish)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the launch cannot be read: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="invalid_json") from None
    name = wish.model_uid or wish.model_name
    if not name:
        raise InvalidRequest("name the model to launch as `model_uid`", code="missing_model", param="model_uid")
    return name


def _not_ours(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"model '{name}' is served elsewhere: this router neither starts nor stops it", param="model_uid"
    )

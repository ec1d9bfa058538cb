"""A client's request: read, bounded, checked, and as it goes on to an engine."""

import asyncio
from typing import Protocol

import msgspec

from router.catalog import Target
from router.errors import BodyTimeout, MethodNotAllowed, TooLarge, UnsupportedMedia
from router.proxy import headers as http
from router.proxy.asgi import Receive, Scope
from router.proxy.body import Span, place_model, read_head
from router.proxy.multipart import find_field, read_name
from router.proxy.paths import Path


class Limits(Protocol):
    """What a client may send. `max_body` in bytes, `body_timeout` in seconds without a byte."""

    @property
    def max_body(self) -> int: ...
    @property
    def body_timeout(self) -> float: ...


class ClientGone(Exception):
    """Nobody is left to answer."""


class Request(msgspec.Struct):
    """What the client asked, as far as the router reads it. `span` is where `model` stands in `body`."""

    path: Path
    headers: list[tuple[bytes, bytes]]
    query: bytes
    body: bytes
    model: str
    span: Span

    def body_for(self, target: Target) -> bytes:
        """The body, asking for what the engine calls the model."""
        if target.served == self.model:
            return self.body
        name = target.served.encode() if self.path.form else msgspec.json.encode(target.served)
        return b"%b%b%b" % (self.body[: self.span[0]], name, self.body[self.span[1] :])

    def head_for(self, target: Target, length: int) -> bytes:
        """The request line and the headers, for a body of `length` bytes."""
        prefix = target.address.prefix
        path = self.path.on(prefix) if target.paths is None else prefix + target.paths[self.path.public]
        query = b"?" + self.query if self.query else b""
        key = b"" if target.key is None else b"authorization: Bearer %b\r\n" % target.key.encode()
        return b"POST %b%b HTTP/1.1\r\nhost: %b\r\n%b%bcontent-length: %d\r\n\r\n" % (
            path.encode(),
            query,
            target.address.authority.encode(),
            key,
            http.for_engine(self.headers),
            length,
        )


async def read_request(path: Path, scope: Scope, receive: Receive, limits: Limits) -> Request:
    """Raises InvalidRequest and its kind, each saying what the client has to mend; ClientGone."""
    if scope["method"] != "POST":
        raise MethodNotAllowed(f"{path.public} takes POST, not {scope['method']}", allow="POST")
    headers = scope["headers"]
    content_type = (http.find(headers, b"content-type") or b"").decode("latin-1")
    _check_type(path, content_type.partition(";")[0].strip().lower())
    if http.find(headers, b"content-encoding") not in (None, b"identity"):
        raise UnsupportedMedia("the body is compressed; send it as it is, without `Content-Encoding`")
    body = await _read_body(headers, receive, limits)
    if path.form:
        span = find_field(body, content_type)
        return Request(path, headers, scope["query_string"], body, read_name(body, span), span)
    name = read_head(body).model or ""
    return Request(path, headers, scope["query_string"], body, name, place_model(body))


def _check_type(path: Path, kind: str) -> None:
    if path.form and kind != "multipart/form-data":
        raise UnsupportedMedia(f"{path.public} takes multipart/form-data, not {kind or 'a body without a type'}")
    if not path.form and kind not in ("", "application/json") and not kind.endswith("+json"):
        raise UnsupportedMedia(f"{path.public} takes JSON, not {kind}; send `Content-Type: application/json`")


async def _read_body(headers: http.Headers, receive: Receive, limits: Limits) -> bytes:
    declared = http.find(headers, b"content-length")
    if declared is not None and int(declared) > limits.max_body:
        raise _too_large(limits)
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_timeout) as timer:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limits.max_body:
                    raise _too_large(limits)
                if not message.get("more_body"):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                timer.reschedule(loop.time() + limits.body_timeout)
    except TimeoutError:
        raise BodyTimeout("the body stopped coming; send it without a pause") from None


def _too_large(limits: Limits) -> TooLarge:
    return TooLarge(f"the body is larger than {limits.max_body} bytes; send less, or raise `max_body`")

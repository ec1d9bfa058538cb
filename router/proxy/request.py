"""A client's request: checked, and as it goes on to an engine."""

from collections.abc import Iterable, Sequence

import msgspec

from router.catalog import Edits, Model
from router.errors import InvalidRequest, MethodNotAllowed, NotSupported, UnsupportedMedia
from router.proxy.body import Span, place_model, read_head
from router.proxy.dialects import edited, members
from router.proxy.headers import Fields
from router.proxy.paths import Path, Route
from router.proxy.turn import Head
from router.proxy.way import Way

SMALL = 65536
"""Bytes of a body that are worth a copy, to go on in one piece."""
NOWHERE: Span = (0, 0)


class Request(msgspec.Struct, frozen=True):
    """What the client asked, as far as the router reads it. `span` is where `model` stands in `body`, as JSON or, in a
    `form`, as it is; NOWHERE where it does not. `streams`: a stream of events is wanted, with these `options`;
    `previous`: the id of the answer that it goes on from."""

    route: Route
    head: Head
    body: bytes
    model: str
    span: Span
    streams: bool = False
    options: bytes = b""
    previous: str = ""
    form: bool = False

    def edited(self, edits: Iterable[Edits]) -> "Request":
        """With members left out, set and added."""
        body = self.body
        for each in edits:
            body = edited(body, each)
        return read_json(self.route, self.head, body)

    def with_body(self, body: bytes) -> "Request":
        """The same with another body, which has the same `model`."""
        return Request(
            self.route, self.head, body, self.model, place_model(body), self.streams, self.options, self.previous
        )

    def pieces(self, way: Way, name: str) -> Sequence[bytes | memoryview]:
        """The whole request, with the engine's `name` for the model; a large body is not copied."""
        body, (start, end) = self.body, self.span
        told = body[start:end]
        if end and name != self.model:
            told = name.encode() if self.form else msgspec.json.encode(name)
        length = len(body) - (end - start) + len(told)
        if len(body) < SMALL and self.route.path.body == "json" and not self.head.query:  # as nearly all are
            framing = b"content-length: %d\r\n\r\n" % length
            return (b"".join((way.start, self.head.lines, framing, body[:start], told, body[end:])),)
        head = self.line(way)
        if length or self.head.method == "POST":
            head = b"%bcontent-length: %d\r\n\r\n" % (head, length)
        else:
            head += b"\r\n"
        if len(body) < SMALL:
            return (b"".join((head, body[:start], told, body[end:])),)
        view = memoryview(body)
        return (head, view[:start], told, view[end:])

    def line(self, way: Way) -> bytes:
        """The request's line and headers, but for those on its body's length."""
        head, path = self.head, way.path
        if self.route.id:
            path = path.replace(b"{id}", self.route.id.encode())
        if head.query:
            path = b"%b?%b" % (path, head.query)
        return b"%b %b%b%b" % (head.method.encode(), path, way.lines, head.lines)


def check_head(path: Path, method: str, fields: Fields) -> None:
    """What can be refused before the body has come. Raises InvalidRequest and its kind."""
    if method not in path.methods:
        allow = ", ".join(path.methods)
        raise MethodNotAllowed(f"{path.public} takes {allow}, not {method}", allow=allow)
    kind = fields.get(b"content-type", b"")
    if path.body in ("json", "form", "either") and (kind != b"application/json" or path.body == "form"):
        _check_type(path, kind.partition(b";")[0].strip().lower().decode("latin-1"))
    if fields.get(b"content-encoding", b"identity") != b"identity":
        raise UnsupportedMedia("the body is compressed; send it as it is, without `Content-Encoding`")


def not_served(model: Model, path: Path, others: Sequence[str], asked: str = "") -> NotSupported:
    """`others`: the names that have the path; `asked`: the one that led to the model."""
    problem = f"model '{model.name}' ({model.kind}, {model.engine})"
    if asked not in ("", model.name):
        problem = f"'{asked}' leads to {problem}, which"
    offer = f"models that do: {', '.join(others)}" if others else "no declared model does"
    return NotSupported(f"{problem} does not serve {path.public}; {offer}")


def is_form(path: Path, fields: Fields) -> bool:
    return path.body == "form" or (path.body == "either" and b"multipart/" in fields.get(b"content-type", b"").lower())


def read_json(route: Route, head: Head, body: bytes) -> Request:
    """A request with a JSON body. Raises InvalidRequest, saying what the client has to mend."""
    found = read_head(body)
    if route.model:
        body = body if found.model is not None else _with_model(body, route.model)
        span, model = place_model(body), route.model
        if found.model != model:  # what stands in the path counts
            name = msgspec.json.encode(model)
            body = b"%b%b%b" % (body[: span[0]], name, body[span[1] :])
            span = (span[0], span[0] + len(name))
    elif not found.model:
        raise InvalidRequest("`model` is missing; name the model to ask", code="missing_model", param="model")
    else:
        span, model = place_model(body), found.model
    streams = route.path.events and bytes(found.stream) == b"true"
    options = bytes(found.stream_options) if streams else b""
    previous = bytes(found.previous_response_id).strip(b'"').decode() if route.path.owner else ""
    return Request(route, head, body, model, span, streams, options, previous)


def _with_model(body: bytes, model: str) -> bytes:
    """In place of none, or of null."""
    return members.write(members.read_body(body) | {"model": members.raw(model)})


def _check_type(path: Path, kind: str) -> None:
    is_json = kind in ("", "application/json") or kind.endswith("+json")
    if kind == "multipart/form-data" and path.body != "json":
        return
    if path.body == "form":
        raise UnsupportedMedia(f"{path.public} takes multipart/form-data, not {kind or 'a body without a type'}")
    if not is_json:
        raise UnsupportedMedia(f"{path.public} takes JSON, not {kind}; send `Content-Type: application/json`")

"""A client's request: read, bounded, checked, and as it goes on to an engine."""

from collections.abc import Sequence

import msgspec

from router.catalog import Target
from router.errors import MethodNotAllowed, UnsupportedMedia
from router.proxy import headers as http
from router.proxy.body import Span, place_model, read_head
from router.proxy.multipart import find_field, read_name
from router.proxy.paths import Path
from router.proxy.turn import Turn

SMALL = 65536
"""Bytes of a body that are worth a copy, to go on in one piece."""


class Request(msgspec.Struct):
    """What the client asked, as far as the router reads it. `span` is where `model` stands in `body`."""

    path: Path
    turn: Turn
    body: bytes
    model: str
    span: Span

    def body_for(self, target: Target) -> Sequence[bytes | memoryview]:
        """The body in pieces, asking for what the engine calls the model; a large one is not copied."""
        if target.served == self.model:
            return (self.body,)
        name = target.served.encode() if self.path.form else msgspec.json.encode(target.served)
        start, end = self.span
        if len(self.body) < SMALL:
            return (b"%b%b%b" % (self.body[:start], name, self.body[end:]),)
        view = memoryview(self.body)
        return (view[:start], name, view[end:])

    def head_for(self, target: Target, length: int) -> bytes:
        """The request line and the headers, for a body of `length` bytes."""
        prefix = target.address.prefix
        path = self.path.on(prefix) if target.paths is None else prefix + target.paths[self.path.public]
        query = b"?" + self.turn.query if self.turn.query else b""
        key = b"" if target.key is None else b"authorization: Bearer %b\r\n" % target.key.encode()
        return b"POST %b%b HTTP/1.1\r\nhost: %b\r\n%b%bcontent-length: %d\r\n\r\n" % (
            path.encode(),
            query,
            target.address.authority.encode(),
            key,
            http.for_engine(self.turn.headers, self.turn.fields),
            length,
        )


def check_head(path: Path, method: str, fields: http.Fields) -> None:
    """What can be refused before the body has come. Raises InvalidRequest and its kind."""
    if method != "POST":
        raise MethodNotAllowed(f"{path.public} takes POST, not {method}", allow="POST")
    kind = fields.get(b"content-type", b"")
    if kind != b"application/json" or path.form:
        _check_type(path, kind.partition(b";")[0].strip().lower().decode("latin-1"))
    if fields.get(b"content-encoding", b"identity") != b"identity":
        raise UnsupportedMedia("the body is compressed; send it as it is, without `Content-Encoding`")


def read_request(path: Path, turn: Turn) -> Request:
    """Raises InvalidRequest, saying what the client has to mend."""
    if path.form:
        span = find_field(turn.body, turn.fields.get(b"content-type", b"").decode("latin-1"))
        return Request(path, turn, turn.body, read_name(turn.body, span), span)
    name = read_head(turn.body).model or ""
    return Request(path, turn, turn.body, name, place_model(turn.body))


def _check_type(path: Path, kind: str) -> None:
    if path.form and kind != "multipart/form-data":
        raise UnsupportedMedia(f"{path.public} takes multipart/form-data, not {kind or 'a body without a type'}")
    if not path.form and kind not in ("", "application/json") and not kind.endswith("+json"):
        raise UnsupportedMedia(f"{path.public} takes JSON, not {kind}; send `Content-Type: application/json`")

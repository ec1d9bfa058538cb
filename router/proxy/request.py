"""A client's request: checked, and as it goes on to an engine."""

from collections.abc import Mapping, Sequence

import msgspec

from router.catalog import Model, Target
from router.errors import MethodNotAllowed, NotSupported, Unavailable, UnsupportedMedia
from router.proxy.body import Span, place_model, read_head
from router.proxy.headers import Fields
from router.proxy.multipart import find_field, read_name
from router.proxy.paths import Path
from router.proxy.turn import Head

SMALL = 65536
"""Bytes of a body that are worth a copy, to go on in one piece."""


class Request(msgspec.Struct):
    """What the client asked, as far as the router reads it. `span` is where `model` stands in `body`."""

    path: Path
    head: Head
    body: bytes
    model: str
    span: Span

    def pieces_for(self, target: Target, cache: dict[str, bytes]) -> Sequence[bytes | memoryview]:
        """The whole request, asking for what the engine calls the model; a large body is not copied.
        `cache` is the target's. Raises Unavailable where the target does not have the path."""
        body, (start, end) = self.body, self.span
        name = body[start:end]
        if target.served != self.model:
            name = target.served.encode() if self.path.form else msgspec.json.encode(target.served)
        length = len(body) - (end - start) + len(name)
        head = (b"POST ", self._line(target, cache), self.head.lines, b"content-length: %d\r\n\r\n" % length)
        if len(body) < SMALL:
            return (b"".join((*head, body[:start], name, body[end:])),)
        view = memoryview(body)
        return (b"".join(head), view[:start], name, view[end:])

    def _line(self, target: Target, cache: dict[str, bytes]) -> bytes:
        """From the path to the headers that are the router's."""
        if not self.head.query and (line := cache.get(self.path.public)) is not None:
            return line
        prefix = target.address.prefix
        path = self.path.on(prefix) if target.paths is None else prefix + self._path_at(target.paths)
        query = b"?" + self.head.query if self.head.query else b""
        key = b"" if target.key is None else b"authorization: Bearer %b\r\n" % target.key.encode()
        host = target.address.authority.encode()
        line = b"%b%b HTTP/1.1\r\nhost: %b\r\n%b" % (path.encode(), query, host, key)
        if not query:
            cache[self.path.public] = line
        return line

    def _path_at(self, paths: Mapping[str, str]) -> str:
        """The engine's own. A model that has been declared anew may for a while be served by replicas as it was."""
        path = paths.get(self.path.public)
        if path is None:
            message = f"model '{self.model}' has changed, and its engine does not serve {self.path.public} yet"
            raise Unavailable(message, retry_after=10)
        return path


def check_head(path: Path, method: str, fields: Fields) -> None:
    """What can be refused before the body has come. Raises InvalidRequest and its kind."""
    if method != "POST":
        raise MethodNotAllowed(f"{path.public} takes POST, not {method}", allow="POST")
    kind = fields.get(b"content-type", b"")
    if kind != b"application/json" or path.form:
        _check_type(path, kind.partition(b";")[0].strip().lower().decode("latin-1"))
    if fields.get(b"content-encoding", b"identity") != b"identity":
        raise UnsupportedMedia("the body is compressed; send it as it is, without `Content-Encoding`")


def check_served(model: Model, path: Path) -> None:
    """Raises NotSupported."""
    if model.paths is not None and path.public not in model.paths:
        offer = ", ".join(sorted(model.paths))
        problem = f"model '{model.name}' ({model.kind}, {model.engine}) does not serve {path.public}"
        raise NotSupported(f"{problem}; it serves {offer}")


def read_request(path: Path, head: Head, body: bytes) -> Request:
    """Raises InvalidRequest, saying what the client has to mend."""
    if path.form:
        span = find_field(body, head.fields.get(b"content-type", b"").decode("latin-1"))
        return Request(path, head, body, read_name(body, span), span)
    name = read_head(body).model or ""
    return Request(path, head, body, name, place_model(body))


def _check_type(path: Path, kind: str) -> None:
    if path.form and kind != "multipart/form-data":
        raise UnsupportedMedia(f"{path.public} takes multipart/form-data, not {kind or 'a body without a type'}")
    if not path.form and kind not in ("", "application/json") and not kind.endswith("+json"):
        raise UnsupportedMedia(f"{path.public} takes JSON, not {kind}; send `Content-Type: application/json`")

"""Finds `model` in a JSON document and puts another name in its place, touching no other byte.

The document is checked to be JSON, but not built: msgspec skips what nobody asked for. The value's position is exact: a
nested or quoted look-alike is never taken for it.
"""

import re
from collections.abc import Collection, Iterator

import msgspec

from router.errors import InvalidRequest


class Head(msgspec.Struct):
    """The two members of a request that the router reads."""

    model: str | None = None
    stream: bool | None = None


_decode_head = msgspec.json.Decoder(Head, strict=False).decode
_decode_string = msgspec.json.Decoder(str).decode

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# A string with a colon after it is a key: no value can be followed by one.
_TOKEN = re.compile(rb"(?:(" + _STRING + rb")(\s*+:)?)|[{}\[\]]", re.DOTALL)
_VALUE = re.compile(rb"\s*+:\s*+(" + _STRING + rb")", re.DOTALL)


def read_head(body: bytes) -> Head:
    """`model` and `stream` of a request. Raises InvalidRequest that says what the client has to mend."""
    try:
        head = _decode_head(body)
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply", code="invalid_json") from None
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="invalid_json") from None
    if not head.model:
        raise InvalidRequest("`model` is missing; name the model to ask", code="missing_model", param="model")
    return head


def _invalid(error: msgspec.ValidationError) -> InvalidRequest:
    text = str(error)
    if "$.model" in text:
        return InvalidRequest("`model` must be a string", code="missing_model", param="model")
    if "$.stream" in text:
        return InvalidRequest("`stream` must be true or false", param="stream")
    return InvalidRequest("the body must be a JSON object", code="invalid_json")


def replace_model(body: bytes, name: str) -> bytes:
    """`body`, which `read_head` took, with `name` as its `model`. Raises InvalidRequest if `model` stands twice:
    two readers could take two different ones for the real one."""
    # One literal key and no escape that could spell another one: it must be the one that was decoded, at the top.
    # (\\u0064, \\u0065, \\u006c, \\u006d and \\u006f are the letters of "model".)
    if body.count(b'"model"') == 1 and b"\\u006" not in body:
        value = _VALUE.match(body, body.index(b'"model"') + 7)
        spans = [value.span(1)] if value else []
    else:
        spans = list(find_model(body))
    if len(spans) != 1:
        raise InvalidRequest("`model` stands more than once in the body", code="duplicate_model", param="model")
    start, end = spans[0]
    return b"%b%b%b" % (body[:start], msgspec.json.encode(name), body[end:])


def find_model(body: bytes, parents: Collection[bytes] = ()) -> Iterator[tuple[int, int]]:
    """Where the string values of `model` stand (start and end, quotes included): at the top, or directly in one of the
    top's objects whose key is in `parents`. The end of `body` may be missing."""
    depth, parent = 0, b""
    for token in _TOKEN.finditer(body):
        text, colon = token.groups()
        if text is None:
            depth += 1 if token[0] in b"{[" else -1
        elif colon is not None and (depth == 1 or (depth == 2 and parent in parents)):
            key = _key(text)
            if depth == 1:
                parent = key
            if key == b"model" and (value := _VALUE.match(body, token.end(1))):
                yield value.span(1)


def _key(text: bytes) -> bytes:
    return _decode_string(text).encode() if b"\\" in text else text[1:-1]

"""Finds `model` in a JSON document, so that another name can be put in its place and no other byte is touched.

The document is checked to be JSON, but not built: msgspec skips what nobody asked for. It also has the last word on
where `model` stands: a nested or quoted look-alike is never taken for it.
"""

import codecs
import re
from collections.abc import Collection, Iterator, Sequence

import msgspec

from router.errors import InvalidRequest

MAX_LOOK_ALIKES = 1000
"""Keys called `model`, at whatever depth, in one document; to tell more of them apart would hold everybody else up."""

Span = tuple[int, int]
"""Start and end of a value, quotes included."""


class Head(msgspec.Struct):
    """The members of a request that the router reads, all but `model` as they stand there; "" where they do not."""

    model: str | None = None
    stream: msgspec.Raw = msgspec.Raw()
    stream_options: msgspec.Raw = msgspec.Raw()
    previous_response_id: msgspec.Raw = msgspec.Raw()


class _Place(msgspec.Struct):
    model: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_head = msgspec.json.Decoder(Head, strict=False).decode
_decode_place = msgspec.json.Decoder(_Place).decode
_decode_string = msgspec.json.Decoder(str).decode

_KEY = re.compile(rb'"model"(?=\s*+:)')
_ESCAPED_KEY = re.compile(rb'"(?:m|\\u006[dD])(?:o|\\u006[fF])(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006[cC])"(?=\s*+:)')
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_VALUE = re.compile(rb"\s*+:\s*+(" + _STRING + rb")", re.DOTALL)
# A string with a colon after it is a key: no value can be followed by one. One that is cut short takes the rest, else
# each quote in it would be tried as a start.
_TOKEN = re.compile(rb"(?:(" + _STRING + rb')(\s*+:)?)|[{}\[\]]|".*+', re.DOTALL)
# The usual beginning, as far as the value of `model`: before it plain members only, so it must be at the top.
_MEMBER = rb'\s*+"(?!model")[^"\\]*+"\s*+:\s*+(?:"[^"\\]*+"|[-+.\w]++)\s*+,'
_PLAIN_START = re.compile(
    rb"\s*+\{(?:" + _MEMBER + rb')*+\s*+"model"\s*+:\s*+(' + _STRING + rb")",
    re.DOTALL,
)
# The usual end, from `model` on: behind it members without lists only, and then the document is over, so likewise.
_SCALAR = rb'(?:"[^"\\]*+"|[-+.\w]++)'
_KEY_OF = rb'\s*+"[^"\\]*+"\s*+:\s*+'
_FLAT = rb"\{(?:" + _KEY_OF + _SCALAR + rb"\s*+,?+)*+\s*+\}"
_NESTED = rb"\{(?:" + _KEY_OF + rb"(?:" + _SCALAR + rb"|" + _FLAT + rb")\s*+,?+)*+\s*+\}"
_PLAIN_END = re.compile(
    rb'"model"\s*+:\s*+('
    + _STRING
    + rb")(?:\s*+,"
    + _KEY_OF
    + rb"(?:"
    + _SCALAR
    + rb"|"
    + _NESTED
    + rb"))*+\s*+\}\s*+\Z",
    re.DOTALL,
)
_UTF8_PIECE = 1 << 20


def read_head(body: bytes) -> Head:
    """What the router reads of a request. Raises InvalidRequest that says what the client has to mend."""
    try:
        head = _decode_head(body)
        if not body.isascii():
            _check_utf8(body)  # msgspec does not look at what it skips
    except RecursionError:
        raise too_deep() from None
    except msgspec.ValidationError as error:
        raise _invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="invalid_json") from None
    return head


def too_deep() -> InvalidRequest:
    """For a RecursionError, which may come only where the body is read once more, with less of the stack left."""
    return InvalidRequest("the body is nested too deeply", code="invalid_json")


def _check_utf8(body: bytes) -> None:
    """Piece by piece: the text of a large body would take four times its memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), _UTF8_PIECE):
        decoder.decode(body[start : start + _UTF8_PIECE])
    decoder.decode(b"", final=True)


def _invalid(error: msgspec.ValidationError) -> InvalidRequest:
    text = str(error)
    if "$.model" in text:
        return InvalidRequest("`model` must be a string", code="missing_model", param="model")
    return InvalidRequest("the body must be a JSON object", code="invalid_json")


def has_model(document: bytes) -> bool:
    """Whether a whole document has a `model` at the top. Raises msgspec.DecodeError if it is no JSON object."""
    return _decode_place(document).model is not msgspec.UNSET


def place_model(body: bytes) -> Span:
    """Where the value of `model` stands in a whole document that has one at the top. Raises InvalidRequest if it stands
    twice: two readers could take two different ones for the real one."""
    # One literal key and no escape that could spell another one: it must be the one that was decoded, at the top.
    # (\\u0064, \\u0065, \\u006c, \\u006d and \\u006f are the letters of "model".)
    # `rfind` takes half of what `find` and `in` do.
    key = body.rfind(b'"model"')
    if key >= 0 > body.rfind(b'"model"', 0, key) and (b"\\" not in body or body.rfind(b"\\u006") < 0):
        value = _VALUE.match(body, key + 7)
    else:
        value = _VALUE.match(body, _only_key(body)[1])
    if value is None:
        raise _duplicate()
    return value.span(1)


def _only_key(body: bytes) -> Span:
    """The key `model` of the top: the one without which there is no `model`. Found by halving, so that a document is
    decoded about ten times at most, whatever it holds."""
    pattern = _ESCAPED_KEY if b"\\u006" in body else _KEY
    keys = []
    for match in pattern.finditer(body):
        keys.append(match.span())
        if len(keys) > MAX_LOOK_ALIKES:
            raise InvalidRequest(f"the body has more than {MAX_LOOK_ALIKES} keys `model`", code="invalid_json")
    while len(keys) > 1:
        half = len(keys) // 2
        keys = keys[:half] if _is_gone(body, keys[:half]) else keys[half:]
    if not _is_gone(body, keys):
        raise _duplicate()
    return keys[0]


def _is_gone(body: bytes, keys: Sequence[Span]) -> bool:
    """Whether the document has no `model` once these keys are called otherwise."""
    parts: list[bytes] = []
    last = 0
    for start, end in keys:
        parts += (body[last:start], b'"other"')
        last = end
    return not has_model(b"".join((*parts, body[last:])))


def _duplicate() -> InvalidRequest:
    return InvalidRequest("`model` stands more than once in the body", code="duplicate_model", param="model")


def find_early(start: bytes, at: int = 0) -> Span | None:
    """Where the value of `model` stands in the beginning of a document, `at` which it begins; None: not among its first
    members, or not there yet. An eighth of what `find_model` takes."""
    match = _PLAIN_START.match(start, at)
    return None if match is None else match.span(1)


def find_late(end: bytes) -> Span | None:
    """Where the value of `model` stands in the last part of a document; None: not among its last members."""
    match = _PLAIN_END.match(end, max(0, end.rfind(b'"model"')))
    return None if match is None else match.span(1)


def find_model(body: bytes, parents: Collection[bytes] = ()) -> Iterator[Span]:
    """Where the string values of `model` stand: at the top, or directly in one of the top's objects whose key is in
    `parents`. The end of `body` may be missing. Only as far as the last `"model"` is looked at."""
    depth, parent = 0, b""
    end = body.rfind(b'"model"') + 7
    value = _VALUE.match(body, end)
    for token in _TOKEN.finditer(body, 0, value.end() if value else end):
        text, colon = token.groups()
        if text is None:
            depth += 1 if token[0] in b"{[" else -1
        elif colon is not None and (depth == 1 or (depth == 2 and parent in parents)):
            key = _decode_string(text).encode() if b"\\" in text else text[1:-1]
            if depth == 1:
                parent = key
            if key == b"model" and (value := _VALUE.match(body, token.end(1))):
                yield value.span(1)

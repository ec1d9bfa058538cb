"""Finds the field `model` of a multipart form, so that another name can be put in its place.

No other byte is touched.

Strict where readers differ (RFC 2046, RFC 7578): what two of them could take for two different forms is refused.
"""

import re
from collections.abc import Iterator

from router.errors import InvalidRequest
from router.proxy.body import Span

MAX_PARTS = 1000
"""Fields and files of one form."""

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\\]{1,70})"|([^\s;,"]{1,70}))\s*(?:;|$)', re.IGNORECASE)
_DISPOSITION = re.compile(rb"content-disposition[ \t]*:[ \t]*form-data[ \t]*(?=;|$)", re.IGNORECASE)
_PARAMETER = re.compile(rb';[ \t]*([^\s=;"]+)=(?:"((?:[^"\\]|\\.)*+)"|([^\s;"]*))[ \t]*')


def find_field(body: bytes, content_type: str) -> Span:
    """Where the text of the field `model` stands. Raises InvalidRequest that says what the client has to mend."""
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        raise InvalidRequest("the multipart form has no boundary in its Content-Type", code="invalid_form")
    delimiter = b"--" + (boundary[1] or boundary[2]).encode("latin-1")
    spans = [span for head, span in _parts(body, delimiter) if _is_model(head)]
    if len(spans) > 1:
        raise InvalidRequest("the form has more than one field `model`", code="duplicate_model", param="model")
    if not spans or spans[0][0] == spans[0][1]:
        raise InvalidRequest(
            "the form has no field `model`; name the model to ask", code="missing_model", param="model"
        )
    return spans[0]


def read_name(body: bytes, span: Span) -> str:
    try:
        return body[slice(*span)].decode()
    except UnicodeDecodeError:
        raise InvalidRequest("`model` is not UTF-8 text", code="missing_model", param="model") from None


def _parts(body: bytes, delimiter: bytes) -> Iterator[tuple[bytes, Span]]:
    """The head of each part, and where its data stands."""
    start = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if start == 1:
        raise _broken("its boundary is nowhere")
    for _ in range(MAX_PARTS):
        start += len(delimiter)
        following = body[start : start + 2]
        if following == b"--":
            return
        if following != b"\r\n":
            raise _broken("its boundary also stands within the data" if following else "it is cut short")
        end = body.find(b"\r\n" + delimiter, start)
        blank = body.find(b"\r\n\r\n", start, end + 2)
        if end < 0 or blank < 0:
            raise _broken("it is cut short")
        yield body[start + 2 : blank], (blank + 4, max(end, blank + 4))
        start = end + 2
    raise _broken(f"it has more than {MAX_PARTS} parts")


def _is_model(head: bytes) -> bool:
    """Whether a part with these header lines is the field `model`, and no file."""
    found = [line for line in head.split(b"\r\n") if line[:19].lower() == b"content-disposition"]
    if len(found) != 1 or (kind := _DISPOSITION.match(found[0])) is None:
        raise _broken("a part has no `Content-Disposition: form-data` of its own")
    position, parameters = kind.end(), dict[bytes, bytes]()
    while position < len(found[0]):
        match = _PARAMETER.match(found[0], position)
        if match is None or match[1].lower() in parameters:
            raise _broken("a part's Content-Disposition cannot be read")
        parameters[match[1].lower()] = match[2] or match[3] or b""
        position = match.end()
    name = parameters.get(b"name")
    if name is None or b"\\" in name or b"name*" in parameters:
        raise _broken("a part has no plain `name`")
    return name == b"model" and not parameters.keys() & {b"filename", b"filename*"}


def _broken(problem: str) -> InvalidRequest:
    return InvalidRequest(f"the body is not a multipart form: {problem}", code="invalid_form")

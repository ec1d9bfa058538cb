"""Reads a multipart form as it comes, to find its field `model`, so that another name can be put in its place.

No other byte is touched, and none is kept but those that may be half of something.

Strict where readers differ (RFC 2046, RFC 7578): what two of them could take for two different forms is refused.
"""

import re
from collections.abc import Callable

from router.errors import InvalidRequest
from router.proxy.body import Span

MAX_PARTS = 1000
"""Fields and files of one form."""
MAX_PART_HEAD = 16384
"""Bytes of the header lines of one part."""

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\\]{1,70})"|([^\s;,"]{1,70}))\s*(?:;|$)', re.IGNORECASE)
_BOUNDARIES = re.compile(r";\s*boundary\b[^=;]*=", re.IGNORECASE)
_DISPOSITION = re.compile(rb"content-disposition[ \t]*:[ \t]*form-data[ \t]*(?=;|$)", re.IGNORECASE)
_PARAMETER = re.compile(rb';[ \t]*([^\s=;"]+)=(?:"((?:[^"\\]|\\.)*+)"|([^\s;"]*))[ \t]*')


class Form:
    """One form, fed in pieces of any size. Among all the bytes that were fed, `begin` is where its first part begins,
    and `model` where the text of that field stands, None as long as its end has not come; `ended`: the form's has.
    InvalidRequest, raised by everything here, says what the client has to mend."""

    __slots__ = ("_at", "_cursor", "_field", "_held", "_marker", "_parts", "_step", "begin", "ended", "model")

    def __init__(self, content_type: str) -> None:
        boundary = _BOUNDARY.search(content_type)
        if boundary is None:
            raise InvalidRequest("the multipart form has no boundary in its Content-Type", code="invalid_form")
        if len(_BOUNDARIES.findall(content_type)) > 1:
            raise InvalidRequest("the multipart form has two boundaries in its Content-Type", code="invalid_form")
        self._marker = b"\r\n--" + (boundary[1] or boundary[2]).encode("latin-1")
        self._held = b"\r\n"  # as if a line had ended before the form
        self._at = -2  # where `_held` begins
        self._cursor = 0  # in `_held`
        self._step: Callable[[Form], bool] = Form._to_marker
        self._parts = 0
        self._field: int | None = None  # where the data of the field `model` begins, while it is read
        self.begin = 0
        self.model: Span | None = None
        self.ended = False

    def feed(self, data: bytes) -> None:
        """What comes behind the form's end is nobody's."""
        if self.ended:
            return
        self._held += data
        while self._step(self):
            pass
        self._held = b"" if self.ended else self._held[self._cursor :]
        self._at += self._cursor
        self._cursor = 0

    def end(self) -> None:
        """Nothing more comes."""
        if not self.ended:
            raise _broken("it is cut short" if self._parts else "its boundary is nowhere")

    def name_in(self, body: bytes) -> str:
        """What the field `model` of this form says."""
        if self.model is None:
            raise _missing()
        try:
            return body[slice(*self.model)].decode()
        except UnicodeDecodeError:
            raise InvalidRequest("`model` is not UTF-8 text", code="missing_model", param="model") from None

    def replacing(self, name: str) -> tuple[Span, bytes]:
        """What stands in for which bytes, so that the form says `name`: a part of its own where it has none."""
        if self.model is not None:
            return self.model, name.encode()
        head = self._marker[2:] + b'\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
        return (self.begin, self.begin), head + name.encode() + b"\r\n"

    # Each step says whether it came to its end; if not, it needs more.

    def _to_marker(self) -> bool:
        """Over the preamble, or a part's data."""
        found = self._held.find(self._marker, self._cursor)
        if found < 0:
            self._cursor = max(self._cursor, len(self._held) - len(self._marker) + 1)
            return False
        if not self._parts:
            self.begin = self._at + found + 2
        if self._field is not None:
            self._place(self._field, max(self._field, self._at + found))
            self._field = None
        self._cursor = found + len(self._marker)
        self._step = Form._past_marker
        return True

    def _place(self, start: int, end: int) -> None:
        if start == end:
            raise _missing()
        self.model = (start, end)

    def _past_marker(self) -> bool:
        following = self._held[self._cursor : self._cursor + 2]
        if len(following) < 2:
            return False
        if following == b"--":
            self.ended = True
            return False
        if following != b"\r\n":
            raise _broken("its boundary also stands within the data")
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _broken(f"it has more than {MAX_PARTS} parts")
        self._step = Form._over_head
        return True

    def _over_head(self) -> bool:
        """From the line's end behind the marker to the one before the data, which a marker may follow at once."""
        start = self._cursor
        blank = self._held.find(b"\r\n\r\n", start, start + MAX_PART_HEAD)
        if blank < 0:
            if len(self._held) - start >= MAX_PART_HEAD:
                raise _broken(f"a part has more than {MAX_PART_HEAD} bytes of headers")
            return False
        if self._held.find(self._marker, start, blank) >= 0:
            raise _broken("it is cut short")
        if _is_model(self._held[start + 2 : blank]):
            if self.model is not None:
                raise InvalidRequest("the form has more than one field `model`", code="duplicate_model", param="model")
            self._field = self._at + blank + 4
        self._cursor = blank + 2
        self._step = Form._to_marker
        return True


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


def _missing() -> InvalidRequest:
    return InvalidRequest("the form has no field `model`; name the model to ask", code="missing_model", param="model")

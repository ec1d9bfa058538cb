"""Finds the field `model` of a multipart form and puts another name in its place, touching no other byte."""

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from router.errors import InvalidRequest


if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


class _ModelField:
    """Listens to the parser. `spans` are the places of the data of all fields called `model`."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self.complete = False
        self._header = [b"", b""]
        self._wanted = False

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self.on_part_begin,
            "on_header_field": self.on_header_field,
            "on_header_value": self.on_header_value,
            "on_header_end": self.on_header_end,
            "on_part_data": self.on_part_data,
            "on_end": self.on_end,
        }

    def on_part_begin(self) -> None:
        self._wanted = False

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def on_header_end(self) -> None:
        field, value = self._header
        self._header = [b"", b""]
        if field.lower() == b"content-disposition":
            options = parse_options_header(value)[1]
            if options.get(b"name") == b"model" and b"filename" not in options:
                self._wanted = True
                self.spans.append((0, 0))

    def on_part_data(self, _data: bytes, start: int, end: int) -> None:
        if self._wanted:
            first = self.spans[-1][0] or start
            self.spans[-1] = (first, end)

    def on_end(self) -> None:
        self.complete = True


def find_field(body: bytes, content_type: str) -> tuple[int, int]:
    """Where the data of the field `model` stands. Raises InvalidRequest that says what the client has to mend."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("the multipart form has no boundary in its Content-Type", code="invalid_form")
    listener = _ModelField()
    try:
        parser = MultipartParser(boundary, listener.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest(f"the body is not a multipart form: {error}", code="invalid_form") from None
    if not listener.complete:
        raise InvalidRequest("the multipart form is cut short", code="invalid_form")
    if not listener.spans or listener.spans[0][0] == listener.spans[0][1]:
        raise InvalidRequest(
            "the form has no field `model`; name the model to ask", code="missing_model", param="model"
        )
    if len(listener.spans) > 1:
        raise InvalidRequest("the form has more than one field `model`", code="duplicate_model", param="model")
    return listener.spans[0]


def read_name(body: bytes, span: tuple[int, int]) -> str:
    try:
        return body[slice(*span)].decode()
    except UnicodeDecodeError:
        raise InvalidRequest("`model` is not UTF-8 text", code="missing_model", param="model") from None

"""A head that comes again, byte for byte but for its content-length: what was found in it once need not be found anew.

Clients and engines that keep a connection say nearly the same each time. Reading a head and drawing the conclusions is
half of what a short request costs.
"""

import re
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_SIZE = 4096
"""Bytes of a head that is remembered."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*+(\d++)(?=[ \t]*+\r\n)", re.IGNORECASE)


class Again(Generic[T]):
    """`found` is what was found in the head."""

    __slots__ = ("_after", "_before", "found")

    def __init__(self, before: bytes, after: bytes, found: T) -> None:
        self._before, self._after, self.found = before, after, found

    @classmethod
    def of(cls, data: bytes, found: T) -> "Again[T] | None":
        """Of a message that has been read; None if its head cannot be told again so simply."""
        end = data.find(b"\r\n\r\n", 0, MAX_SIZE) + 4
        lengths = list(_LENGTH.finditer(data, 0, end))
        if len(lengths) != 1:
            return None
        return cls(data[: lengths[0].start(1)], data[lengths[0].end(1) : end], found)

    def body_at(self, data: bytes) -> int:
        """Where the body begins, if `data` is one whole message with this head, else 0."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return 0
        at = len(before)
        end = data.find(b"\r", at, at + 12)
        if end < 0 or not data.startswith(after, end):
            return 0
        length = data[at:end]
        start = end + len(after)
        return start if length.isdigit() and len(data) - start == int(length) else 0

"""The members of a JSON object, each as the bytes it came in: what is not touched need not be rebuilt."""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec

from router.errors import InvalidRequest

Members = dict[str, msgspec.Raw]

MAX_ITEMS = 100_000
"""Texts of one request. Each is looked at, and while that goes on nobody else is served; the answer costs more."""
MAX_MARKS = 10 * MAX_ITEMS
"""Strings of one request, and likewise commas between them: what is built of more takes twenty times their bytes."""

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)

read = msgspec.json.Decoder(Members).decode
read_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
write = msgspec.json.encode


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(write(value))


def opening(value: msgspec.Raw) -> bytes:
    """The first byte of a value, which tells its type: `{`, `[`, `"`, t, f, n, else a number."""
    return memoryview(value)[:1].tobytes()


def read_body(body: bytes) -> Members:
    """Those of a request. Raises InvalidRequest."""
    if body.count(b",") > MAX_MARKS:
        strings = sum(1 for _ in islice(_STRINGS.finditer(body), MAX_MARKS + 1))
        if strings > MAX_MARKS or _STRINGS.sub(b"", body).count(b",") > MAX_MARKS:
            raise InvalidRequest(f"the body has more than {MAX_MARKS} members or items", code="invalid_json")
    return read(body)


def items(value: msgspec.Raw) -> list[msgspec.Raw] | None:
    """Those of a list; None if there are too many."""
    found = read_list(value)
    return found if len(found) <= MAX_ITEMS else None


def is_null(value: msgspec.Raw) -> bool:
    return opening(value) == b"n"


def taken(members: Members, takes: frozenset[str] | None, *, nulls: bool) -> Members:
    """Those that an engine takes (None: all), without nulls where it has no use for them. `model` stays: the router
    needs it."""
    return {
        name: value
        for name, value in members.items()
        if (takes is None or name in takes or name == "model") and (nulls or not is_null(value))
    }


def merged(members: Members, values: Mapping[str, Any], *, over: bool) -> Members:
    """`members` with `values` put in, objects into objects at any depth; `over` what is there already, or beside it,
    where null is nothing."""
    result = dict(members)
    for name, value in values.items():
        old = members.get(name)
        if old is not None and opening(old) == b"{" and isinstance(value, Mapping):
            result[name] = raw(merged(read(old), value, over=over))
        elif old is None or over or is_null(old):
            result[name] = raw(value)
    return result

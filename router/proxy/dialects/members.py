"""The members of a JSON object, each as the bytes it came in: what is not touched need not be rebuilt."""

from collections.abc import Mapping
from typing import Any

import msgspec

Members = dict[str, msgspec.Raw]

read = msgspec.json.Decoder(Members).decode
read_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
write = msgspec.json.encode


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(write(value))


def opening(value: msgspec.Raw) -> bytes:
    """The first byte of a value, which tells its type: `{`, `[`, `"`, t, f, n, else a number."""
    return memoryview(value)[:1].tobytes()


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
    """`members` with `values` put in, objects into objects at any depth; `over` what is there already, or beside it."""
    result = dict(members)
    for name, value in values.items():
        old = members.get(name)
        if old is not None and opening(old) == b"{" and isinstance(value, Mapping):
            result[name] = raw(merged(read(old), value, over=over))
        elif old is None or over:
            result[name] = raw(value)
    return result

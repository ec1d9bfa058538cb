"""Answers of embeddings: parts joined, floats encoded."""

import sys
from array import array
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from router.proxy.dialects.adapter import NotUnderstood
from router.proxy.dialects.members import Members, opening, raw, read, write

_read_data = msgspec.json.Decoder(list[Members]).decode
_read_floats = msgspec.json.Decoder(list[float]).decode
_read_index = msgspec.json.Decoder(int).decode
_read_usage = msgspec.json.Decoder(dict[str, object] | None).decode


def answer(answers: Sequence[bytes], counts: Sequence[int], *, base64: bool) -> bytes:
    """One answer of many. `counts`: the vectors that each must have. `base64`: floats become little-endian float32 in
    base64. Raises msgspec.DecodeError or NotUnderstood."""
    parts = [read(part) for part in answers]
    if not all("data" in part for part in parts):
        raise NotUnderstood("the engine's answer holds no embeddings: it has no `data`")
    data = [_read_data(part["data"]) for part in parts]
    whole = parts[0]
    if len(parts) > 1:
        data = [_joined(data, counts)]
        whole |= _usage(parts)
    if base64:
        for item in data[0]:
            _encode(item)
    return write({**whole, "data": data[0]})


def _joined(data: Sequence[list[Members]], counts: Sequence[int]) -> list[Members]:
    if [len(part) for part in data] != list(counts):
        raise NotUnderstood("the engine's answer has not as many embeddings as it was asked for")
    ordered = [item for part in data for item in _ordered(part)]
    for index, item in enumerate(ordered):
        item["index"] = raw(index)
    return ordered


def _ordered(part: Iterable[Members]) -> list[Members]:
    """By `index`, where they have one."""
    return sorted(part, key=lambda item: _read_index(item["index"]) if "index" in item else 0)


def _usage(parts: Iterable[Members]) -> Members:
    """Numbers summed; of the rest the first."""
    total: dict[str, object] = {}
    for usage in _usages(parts):
        for name, value in usage.items():
            before = total.setdefault(name, 0 if isinstance(value, int | float) else value)
            if isinstance(value, int | float) and isinstance(before, int | float):
                total[name] = before + value
    return {"usage": raw(total)} if total else {}


def _usages(parts: Iterable[Members]) -> Iterator[dict[str, object]]:
    for part in parts:
        if "usage" in part:
            yield _read_usage(part["usage"]) or {}


def _encode(item: Members) -> None:
    value = item.get("embedding")
    if value is None:
        raise NotUnderstood("the engine's answer has data without an `embedding`")
    if opening(value) == b'"':
        return
    floats = array("f", _read_floats(value))
    if sys.byteorder == "big":
        floats.byteswap()
    item["embedding"] = msgspec.Raw(b'"' + b64encode(floats) + b'"')

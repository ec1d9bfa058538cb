"""What the file changes in requests to a model: `drop`, `default` and `set`."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from router.proxy.dialects.members import Members, merged, opening, raw, read, read_body, write


class Edits(Protocol):
    @property
    def drop(self) -> Sequence[str]:
        """Names of members to leave out; `a.b` is `b` in the object `a`."""

    @property
    def set(self) -> Mapping[str, Any]:
        """Members that replace the client's; objects are merged."""

    @property
    def default(self) -> Mapping[str, Any]:
        """Members for which the client said nothing, or null; objects are merged."""


def edited(body: bytes, edits: Edits) -> bytes:
    """`body`, a JSON object, after `drop`, `default` and `set`, in this order. `model` cannot be touched."""
    members = given = read_body(body)
    for name in edits.drop:
        members = _without(members, name)
    members = merged(members, _but_model(edits.default), over=False)
    members = merged(members, _but_model(edits.set), over=True)
    return body if members == given else write(members)


def _but_model(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in values.items() if name != "model"}


def _without(members: Members, path: str, *, top: bool = True) -> Members:
    name, _, rest = path.partition(".")
    value = members.get(name)
    if value is None or (top and name == "model"):
        return members
    if not rest:
        return {other: kept for other, kept in members.items() if other != name}
    if opening(value) != b"{":
        return members
    return {**members, name: raw(_without(read(value), rest, top=False))}

"""`drop`, `set` and `default`: how requests are changed, by the name that the client asked for."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from router.config import json_values
from router.config.document import Document
from router.config.faults import Where
from router.config.schema import AliasEntry, ModelEntry
from router.config.specs import Edits

OF_THE_ROUTER = {
    "model": "the router's own: it is how a request finds its engine",
    "stream": "the router's own: the form of the answer follows from it",
}
_NONE = Edits()
T = TypeVar("T", list[Any], dict[str, Any])


def check(document: Document, entry: Any, where: Where) -> None:
    """A model as the file has it, and its aliases: each fault, whatever else is wrong there."""
    if not isinstance(entry, dict):
        return
    given = entry.get("set")
    for index, path in enumerate(_as(list, entry.get("drop"))):
        if isinstance(path, str) and path:
            _check_drop(document, path, _as(dict, given), (*where, "drop", index))
    for field in ("set", "default"):
        json_values.check(document, entry.get(field), (*where, field))
        for name in OF_THE_ROUTER.keys() & _as(dict, entry.get(field)).keys():
            document.fault((*where, field, name), OF_THE_ROUTER[name], "remove it")
        for name in _as(dict, entry.get(field)):
            if "." in name:
                remedy = f"write {_nested(name, entry[field][name])}"
                document.fault((*where, field, name), f"a dot leads nowhere in `{field}`", remedy)
    for alias, values in _as(dict, entry.get("aliases")).items():
        check(document, values, (*where, "aliases", alias))


def resolve(name: str, values: ModelEntry) -> dict[str, Edits]:
    """By public name; one whose requests stay as they are is absent."""
    own = _edits(values)
    found = dict.fromkeys((name, *values.aliases, *values.lora), own)
    for alias, entry in values.aliases.items() if isinstance(values.aliases, dict) else ():
        found[alias] = over(own, _edits(entry or AliasEntry()))
    return {public: edits for public, edits in found.items() if edits != _NONE}


def over(low: Edits, high: Edits) -> Edits:
    """Both, and `high` where they differ: what it drops, `low` does not bring back."""
    return Edits(
        drop=tuple(dict.fromkeys((*low.drop, *high.drop))),
        set=_merged(_without(low.set, high.drop), high.set),
        default=_merged(_without(low.default, high.drop), high.default),
    )


def _edits(values: ModelEntry | AliasEntry) -> Edits:
    return Edits(drop=tuple(values.drop), set=values.set, default=values.default)


def _as(kind: type[T], value: Any) -> T:
    """`value` where it is of that kind, else an empty one: what it is has been said."""
    return value if isinstance(value, kind) else kind()


def _check_drop(document: Document, path: str, given: Mapping[str, Any], where: Where) -> None:
    first, *_ = steps = path.split(".")
    if first in OF_THE_ROUTER:
        document.fault(where, OF_THE_ROUTER[first], "remove it")
    elif not all(steps):
        document.fault(where, "a dot without a name", "write names with one dot between two of them")
    elif any(leaf == path for leaf in _leaves(given)):
        # A mapping that is dropped and set takes the place of the client's, which merging would keep.
        document.fault(where, f"{document.show(path)} stands in `set` too", "keep one of them: `set` is enough")


def _nested(path: str, value: Any) -> str:
    """As mappings in one another. The value is shown where it is no secret."""
    shown = str(value).lower() if isinstance(value, bool) else "…"
    for step in filter(None, reversed(path.split("."))):
        shown = f"{{{step}: {shown}}}"
    return shown


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(low)
    for name, value in high.items():
        below = both.get(name)
        both[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both


def _without(values: Mapping[str, Any], paths: Collection[str], above: str = "") -> dict[str, Any]:
    return {
        name: _without(value, paths, f"{above}{name}.") if isinstance(value, dict) else value
        for name, value in values.items()
        if f"{above}{name}" not in paths
    }

"""The names by which models lead to one another: `fallback` and the members of a `group`."""

import difflib
from collections.abc import Mapping, Sequence

from launchers.base import Kind
from router.config.document import Document
from router.config.entries import Entry
from router.config.faults import Where
from router.config.names import Owners

_BACK, _OTHER = "{} leads back to itself", "name another model, or remove it"


def check(document: Document, entries: Sequence[Entry], owners: Owners) -> None:
    """The faults are in the document."""
    groups = {entry.name for entry in entries if entry.is_group}
    reached = {entry.name: _reached(entry, owners) for entry in entries}
    for entry in entries:
        for index, name in enumerate(entry.values.fallback):
            where: Where = (*entry.where, "fallback", index)
            if not _leads(document, entry, name, owners, where):
                continue
            if name in entry.values.fallback[:index]:
                document.fault(where, f"{document.show(name)} stands twice", "name each model once")
            elif reached[str(owners[name][1])] <= reached[entry.name]:
                document.fault(where, _BACK.format(document.show(name)), _OTHER)
        for name in entry.values.group or {}:
            where = (*entry.where, "group", name)
            if _leads(document, entry, name, owners, where) and owners[name][1] in groups:
                document.fault(where, "is a group itself", "name its members here")


def check_kinds(document: Document, entries: Sequence[Entry], kinds: Mapping[str, Kind]) -> None:
    """Whether what stands in for a model is of its kind; `kinds` of what is fine, by each public name."""
    for entry in entries:
        for index, name in enumerate(entry.values.fallback):
            own, other = kinds.get(entry.name), kinds.get(name)
            if own and other and own != other:
                problem = f"{document.show(name)} is {other}, and this one is {own}"
                document.fault((*entry.where, "fallback", index), problem, f"name a model of the kind {own}")


def _reached(entry: Entry, owners: Owners) -> set[str]:
    """The models that answer its requests."""
    if not entry.is_group:
        return {entry.name}
    return {str(owners[name][1]) for name in entry.values.group or {} if name in owners} or {entry.name}


def _leads(document: Document, entry: Entry, name: str, owners: Mapping[str, Where], where: Where) -> bool:
    if name not in owners:
        near = difflib.get_close_matches(name, owners, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else "declare it below `models`, or remove it"
        document.fault(where, f"no model is called {document.show(name)}", remedy)
        return False
    if owners[name][1] == entry.name:
        document.fault(where, _BACK.format(document.show(name)), _OTHER)
        return False
    return True

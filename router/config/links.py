"""The names by which models lead to one another: `fallback` and the members of a `group`."""

import difflib
from collections.abc import Mapping, Sequence

from router.config.document import Document
from router.config.entries import Entry
from router.config.faults import Where
from router.config.names import Owners


def check(document: Document, entries: Sequence[Entry], owners: Owners) -> None:
    """The faults are in the document."""
    groups = {entry.name for entry in entries if entry.is_group}
    for entry in entries:
        for index, name in enumerate(entry.values.fallback):
            where: Where = (*entry.where, "fallback", index)
            if _leads(document, entry, name, owners, where) and name in entry.values.fallback[:index]:
                document.fault(where, f"{document.show(name)} stands twice", "name each model once")
        for name in entry.values.group or {}:
            where = (*entry.where, "group", name)
            if _leads(document, entry, name, owners, where) and owners[name][1] in groups:
                document.fault(where, "is a group itself", "name its members here")


def _leads(document: Document, entry: Entry, name: str, owners: Mapping[str, Where], where: Where) -> bool:
    if name not in owners:
        near = difflib.get_close_matches(name, owners, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else "declare it below `models`, or remove it"
        document.fault(where, f"no model is called {document.show(name)}", remedy)
        return False
    if owners[name][1] == entry.name:
        document.fault(where, f"{document.show(name)} leads back to itself", "name another model, or remove it")
        return False
    return True

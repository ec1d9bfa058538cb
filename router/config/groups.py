"""A model with `group:`: a name over several models."""

from collections.abc import Mapping

from launchers.base import Kind
from router.config.entries import Entry
from router.config.schema import ModelEntry
from router.config.scope import Scope
from router.config.specs import GroupSpec

FOR_GROUPS = ("group", "aliases", "drop", "set", "default", "fallback", "info")


def resolve(scope: Scope, entry: Entry, kinds: Mapping[str, Kind]) -> GroupSpec | None:
    """None with its faults in the document. `kinds` of the models that are fine, by each of their public names."""
    for field in ModelEntry.__struct_fields__:
        if field in entry.own and field not in FOR_GROUPS:
            remedy = "remove it, or write it below the members: an engine is theirs"
            scope.document.fault((*entry.where, field), "is not for a group", remedy)
    members = entry.values.group or {}
    found = dict.fromkeys(kinds[member] for member in members if member in kinds)
    if len(found) > 1:
        problem = f"its members are of several kinds: {', '.join(found)}"
        scope.document.fault((*entry.where, "group"), problem, "make a group of each kind")
    if len(found) != 1 or entry.bad:
        return None
    return GroupSpec(
        name=entry.name,
        kind=next(iter(found)),
        aliases=tuple(entry.values.aliases),
        members=tuple(members.items()),
        edits=entry.edits,
        fallback=tuple(entry.values.fallback),
        info=entry.values.info,
    )

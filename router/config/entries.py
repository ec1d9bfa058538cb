"""A model's entry over what `defaults` says, with the place that each value has in the file."""

from collections.abc import Mapping
from typing import Any

import msgspec

from router.config import edits, info
from router.config.convert import parts
from router.config.document import ABSENT, Document
from router.config.faults import Where
from router.config.schema import ModelEntry, Shared
from router.config.specs import Care, Edits, Limits


class Entry(msgspec.Struct, frozen=True):
    """One model. `values` are whole: what is in `bad` could not be read, and has the schema's default.
    `edits` are by public name."""

    name: str
    values: ModelEntry
    own: frozenset[str]
    bad: frozenset[str]
    edits: Mapping[str, Edits]

    @property
    def where(self) -> Where:
        return ("models", self.name)

    @property
    def is_group(self) -> bool:
        """Not what is no mapping at all: then every field is bad."""
        return "group" in self.own and not self.bad.issuperset(("engine", "url", "group"))

    def place(self, field: str) -> Where:
        """Where a shared field stands: in the model, else in `defaults`."""
        return (*self.where, field) if field in self.own else ("defaults", field)

    def care(self) -> Care:
        return Care(**{field: getattr(self.values, field) for field in Care.__struct_fields__})

    def limits(self) -> Limits:
        return Limits(**{field: getattr(self.values, field) for field in Limits.__struct_fields__})


def read_defaults(document: Document, value: Any) -> dict[str, Any]:
    """What `defaults:` says, field by field; ABSENT where it is wrong."""
    remedy = "write it below each model it holds for"
    elsewhere = {field: remedy for field in ModelEntry.__struct_fields__ if field not in Shared.__struct_fields__}
    written = parts(document, value, Shared, ("defaults",), elsewhere)
    check_env(document, value, ("defaults",))
    return written


def read_entry(document: Document, name: str, value: Any, defaults: dict[str, Any], elsewhere: dict[str, str]) -> Entry:
    """`elsewhere`: remedies for keys that are options of the model's engine."""
    own = parts(document, value, ModelEntry, ("models", name), elsewhere)
    check_env(document, value, ("models", name))
    edits.check(document, value, ("models", name))
    merged = {**defaults, **own}
    shared, env = defaults.get("env"), own.get("env")
    if isinstance(shared, dict) and isinstance(env, dict):
        merged["env"] = {**shared, **env}
    bad = frozenset(field for field, part in merged.items() if part is ABSENT)
    values = ModelEntry(**{field: part for field, part in merged.items() if part is not ABSENT})
    info.check(document, values.info, ("models", name, "info"))
    return Entry(name, values, frozenset(own), bad, edits.resolve(name, values))


def check_env(document: Document, value: Any, where: Where) -> None:
    """The names below `env` that no environment can hold."""
    env = value.get("env") if isinstance(value, dict) else None
    for name in env if isinstance(env, dict) else ():
        if not name or "=" in name:
            document.fault((*where, "env", name), "no name of a variable", "write `NAME: value`, without `=`")

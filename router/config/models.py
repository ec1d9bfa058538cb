"""`models:`, each by what it is: an engine started here, a server elsewhere, or a group."""

from pathlib import Path
from typing import Any

from launchers import LAUNCHERS
from launchers.base import Kind
from router.config import engines, groups, links, names, remotes
from router.config.document import ABSENT
from router.config.entries import Entry, read_entry
from router.config.scope import Scope
from router.config.specs import EngineSpec, GroupSpec, RemoteSpec

Specs = tuple[EngineSpec | RemoteSpec, ...]


def resolve(
    scope: Scope, written: Any, defaults: dict[str, Any], engines_dir: Path
) -> tuple[Specs, tuple[GroupSpec, ...]]:
    """Those that are fine, in the file's order; the faults of the others are in the document."""
    if not isinstance(written, dict) or not written:
        if written is not ABSENT:
            problem = "no model is declared" if not written else "expected a mapping of names to models"
            scope.document.fault(("models",), problem, "write `models:` with at least one name below it")
        return (), ()
    owners = names.check(scope.document, written)
    entries = [_entry(scope, name, value, defaults) for name, value in written.items()]
    links.check(scope.document, entries, owners)
    found = [_model(scope, entry, written[entry.name], engines_dir) for entry in entries if not entry.is_group]
    specs = tuple(spec for spec in found if spec is not None)
    kinds = _kinds(specs)
    made = [groups.resolve(scope, entry, kinds) for entry in entries if entry.is_group]
    whole = tuple(group for group in made if group is not None)
    over = {name: group.kind for group in whole for name in (group.name, *group.aliases)}
    links.check_kinds(scope.document, entries, {**kinds, **over})
    return specs, whole


def _entry(scope: Scope, name: str, written: Any, defaults: dict[str, Any]) -> Entry:
    launcher = LAUNCHERS.get(str(written.get("engine"))) if isinstance(written, dict) else None
    options = launcher.Options.__struct_fields__ if launcher else ()
    return read_entry(scope.document, name, written, defaults, dict.fromkeys(options, "write it below `options:`"))


def _model(scope: Scope, entry: Entry, written: Any, engines_dir: Path) -> EngineSpec | RemoteSpec | None:
    if entry.bad.intersection(("engine", "url")):
        return None
    if (entry.values.engine is None) == (entry.values.url is None):
        problem = "both `engine` and `url`" if entry.values.engine else "neither `engine` nor `url`, and no `group`"
        remedy = "name the engine to start here, the address of a server elsewhere, or a group's members"
        scope.document.fault(entry.where, problem, remedy)
        return None
    if entry.values.url is not None:
        return remotes.resolve(scope, entry)
    return engines.resolve(scope, entry, written.get("options"), engines_dir)


def _kinds(specs: Specs) -> dict[str, Kind]:
    """By each public name that leads to a model."""
    adapters = {name: spec.kind for spec in specs if isinstance(spec, EngineSpec) for name in spec.lora}
    return {name: spec.kind for spec in specs for name in (spec.name, *spec.aliases)} | adapters

"""What a changed file would do to a running router: a pure comparison."""

from collections.abc import Iterator

import msgspec

from router.config import Config, EngineSpec, RemoteSpec
from router.fleet.identity import is_same
from router.fleet.rows import Plan, Step

Spec = EngineSpec | RemoteSpec

FIXED = ("host", "port", "state_dir")
"""What a router has from its start to its end."""
_NO_SETTINGS = ("file", "models", "engines_dir", "secrets")
"""Of no effect by themselves."""


def compare(old: Config, new: Config) -> Plan:
    """In the new file's order, then what goes."""
    before = {spec.name: spec for spec in old.models}
    after = {spec.name: spec for spec in new.models}
    steps = [_step(before.get(spec.name), spec) for spec in new.models]
    steps += [Step(name, "remove") for name in before if name not in after]
    settings = [name for name in _differing(old, new) if name not in _NO_SETTINGS]
    refused = tuple(
        f"`{'state_dir' if name == 'state_dir' else 'listen'}` cannot change while the router runs: put it back, "
        f"or run `router down` and `router up`"
        for name in FIXED
        if name in settings
    )
    return Plan(tuple(steps), tuple(map(_written, settings)), tuple(dict.fromkeys(refused)))


def _step(old: Spec | None, new: Spec) -> Step:
    if old is None:
        return Step(new.name, "add")
    if type(old) is not type(new):
        return Step(new.name, "replace", ("engine",))
    fields = tuple(_fields(old, new))
    if not fields:
        return Step(new.name, "keep")
    if isinstance(old, EngineSpec) and isinstance(new, EngineSpec):
        if not is_same(old, new):
            return Step(new.name, "replace", fields)
        if old.replicas != new.replicas:
            return Step(new.name, "scale", fields)
    return Step(new.name, "update", fields)


def _fields(old: Spec, new: Spec) -> Iterator[str]:
    """Names and never values: they may be secrets."""
    for name in _differing(old, new):
        before, after = getattr(old, name), getattr(new, name)
        match name:
            case "limits" | "care":
                yield from _differing(before, after)
            case "options" if type(before) is type(after):
                yield from (f"options.{option}" for option in _differing(before, after))
            case "env":
                yield from (f"env.{key}" for key in {**before, **after} if before.get(key) != after.get(key))
            case "paths":
                pass  # follow from the others
            case "program":
                yield "environment"
            case "source":
                yield "model"
            case _:
                yield name


def _differing(old: msgspec.Struct, new: msgspec.Struct) -> list[str]:
    return [name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)]


def _written(name: str) -> str:
    """As it stands in the file."""
    return name.replace("_", ".", 1) if name.startswith("log_") else name

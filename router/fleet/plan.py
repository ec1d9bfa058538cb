"""What a changed file would do to a running router: a pure comparison."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from launchers.base import Refusal
from router.config import Config, Edits, EngineSpec, GroupSpec, RemoteSpec
from router.fleet.identity import is_same
from router.fleet.rows import Plan, Step

Spec = EngineSpec | RemoteSpec | GroupSpec

FIXED = {"listen": "`router up --takeover`", "state_dir": "`router down` and `router up`"}
"""What a router has from its start to its end, and what changes it."""
_NO_SETTINGS = ("file", "models", "groups", "engines_dir", "secrets")
"""Of no effect by themselves."""
_IN_THE_FILE = {
    "host": "listen", "port": "listen",
    "log_format": "log.format", "log_access": "log.access", "log_max_size": "log.max_size", "log_keep": "log.keep",
}  # fmt: skip
_IN_A_MODEL: Mapping[type[Spec], Mapping[str, str]] = {
    EngineSpec: {"program": "environment", "source": "model"},
    RemoteSpec: {"host": "url", "port": "url", "tls": "url", "prefix": "url", "key": "api_key"},
    GroupSpec: {"members": "group"},
}


def compare(old: Config, new: Config) -> Plan:
    """In the new file's order, groups after models, then what goes."""
    before: dict[str, Spec] = {spec.name: spec for spec in (*old.models, *old.groups)}
    after: dict[str, Spec] = {spec.name: spec for spec in (*new.models, *new.groups)}
    steps = [_step(before.get(name), spec) for name, spec in after.items()]
    steps += [Step(name, "remove") for name in before if name not in after]
    settings = _written((name for name in _differing(old, new) if name not in _NO_SETTINGS), _IN_THE_FILE)
    refused = tuple(
        f"`{name}` cannot change while the router runs: put it back, or run {instead}"
        for name, instead in FIXED.items()
        if name in settings
    )
    return Plan(tuple(steps), settings, refused)


def same_engines(old: EngineSpec, new: EngineSpec) -> bool:
    """Whether the engines of one are those of the other. Not where that can no longer be told, as the files on disk
    have changed."""
    try:
        return is_same(old, new)
    except Refusal:
        return False


def _step(old: Spec | None, new: Spec) -> Step:
    if old is None:
        return Step(new.name, "add")
    if type(old) is not type(new):
        return Step(new.name, "replace", ("group" if GroupSpec in (type(old), type(new)) else "engine",))
    fields = _written(_fields(old, new), _IN_A_MODEL[type(new)])
    if not fields:
        return Step(new.name, "keep")
    if isinstance(old, EngineSpec) and isinstance(new, EngineSpec):
        if not same_engines(old, new):
            return Step(new.name, "replace", fields)
        if old.replicas != new.replicas:
            return Step(new.name, "scale", fields)
    return Step(new.name, "update", fields)


def _fields(old: Spec, new: Spec) -> Iterator[str]:
    """Names and never values: they may be secrets."""
    for name in _differing(old, new):
        before, after = getattr(old, name), getattr(new, name)
        match name:
            case "limits" | "care" | "wants":
                yield from _differing(before, after)
            case "options" if type(before) is type(after):
                yield from (f"options.{option}" for option in _differing(before, after))
            case "env":
                yield from (f"env.{key}" for key in {**before, **after} if before.get(key) != after.get(key))
            case "edits":
                yield from _edited(old, new)
            case "paths":
                pass  # follow from the others
            case "kind" if isinstance(new, GroupSpec):
                pass  # its members'
            case _:
                yield name


def _edited(old: Spec, new: Spec) -> Iterator[str]:
    """An alias' own edits are told where the model's are the same: it has both."""
    own = _differing(old.edits.get(new.name, Edits()), new.edits.get(new.name, Edits()))
    yield from own
    if not own and any(old.edits.get(alias) != new.edits.get(alias) for alias in (*old.aliases, *new.aliases)):
        yield "aliases"


def _differing(old: msgspec.Struct, new: msgspec.Struct) -> list[str]:
    return [name for name in old.__struct_fields__ if getattr(old, name) != getattr(new, name)]


def _written(names: Iterable[str], other: Mapping[str, str]) -> tuple[str, ...]:
    """As they stand in the file, each once."""
    return tuple(dict.fromkeys(other.get(name, name) for name in names))

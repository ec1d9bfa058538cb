"""A model with `engine:`: its launcher, options, weights and GPUs, and the command as a rehearsal."""

from pathlib import Path
from typing import Any

import msgspec

from launchers import LAUNCHERS
from launchers.base import Launcher, Program, Refusal, Source
from router.config import gpus, programs, sources, wants
from router.config.convert import convert, nearest
from router.config.document import ABSENT
from router.config.entries import Entry
from router.config.faults import Where
from router.config.programs import is_described, refused
from router.config.reading import ENGINE_VARIABLES
from router.config.scope import Scope
from router.config.specs import EngineSpec, first_share, launch

FOR_REMOTES = ("api_key", "api_key_file", "upstream_model")


def resolve(scope: Scope, entry: Entry, options: Any, engines_dir: Path) -> EngineSpec | None:
    """None with its faults in the document. `options` as the file has them."""
    for field in FOR_REMOTES:
        if field in entry.own:
            scope.document.fault((*entry.where, field), "is for models with `url`", "remove it")
    launcher = LAUNCHERS.get(entry.values.engine or "")
    if launcher is None:
        problem = f"no engine is called {scope.document.show(entry.values.engine)}"
        scope.document.fault((*entry.where, "engine"), problem, nearest(entry.values.engine or "", LAUNCHERS))
        return None
    kind = entry.values.kind or launcher.default_kind
    if kind not in launcher.kinds:
        problem = f"{launcher.name} does not serve {kind}"
        scope.document.fault((*entry.where, "kind"), problem, f"one of: {', '.join(launcher.kinds)}")
    typed = convert(scope.document, options or {}, launcher.Options, (*entry.where, "options"))
    if not is_described(launcher):
        _check_variables(scope, options, (*entry.where, "options"))
    source = _source(scope, launcher, entry)
    lora = _lora(scope, entry)
    wanted = wants.resolve(scope.document, entry, kind)
    request = gpus.request(scope, entry.values.gpus, entry.place("gpus"), entry.values.accelerator)
    program = None if typed is ABSENT else programs.resolve(scope, launcher, entry, typed, engines_dir)
    if source is None or request is None or typed is ABSENT or kind not in launcher.kinds or entry.bad:
        return None
    spec = EngineSpec(
        name=entry.name,
        kind=kind,
        aliases=tuple(entry.values.aliases),
        limits=entry.limits(),
        engine=launcher.name,
        program=program or Program((launcher.name,), getattr(typed, "form", "")),
        source=source,
        options=typed,
        args=tuple(entry.values.args),
        env=entry.values.env,
        replicas=entry.values.replicas,
        gpus=request,
        accelerator=entry.values.accelerator,
        paths=frozenset(),
        memory=entry.values.memory,
        care=entry.care(),
        start_timeout=entry.values.start_timeout,
        stop_grace=entry.values.stop_grace,
        retire_timeout=entry.values.retire_timeout,
        edits=entry.edits,
        fallback=tuple(entry.values.fallback),
        wants=wanted,
        info=entry.values.info,
        lora=lora,
    )
    return None if spec.program.form == "auto" else _rehearsed(scope, launcher, spec, entry)


def _check_variables(scope: Scope, value: Any, where: Where) -> None:
    """`${PORT}` and the like, which were left as they are, are for `engine: command` alone."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _check_variables(scope, part, (*where, key))
    if isinstance(value, str) and any(f"${{{name}}}" in value for name in ENGINE_VARIABLES):
        names = ", ".join(sorted(ENGINE_VARIABLES))
        remedy = f"name the variable otherwise: {names} are the router's own below `options`"
        scope.document.fault(where, "a variable that only `engine: command` fills", remedy)


def _source(scope: Scope, launcher: Launcher, entry: Entry) -> Source | None:
    if "model" in entry.bad:
        return None
    if entry.values.model is not None:
        return sources.resolve(scope, entry.values.model, (*entry.where, "model"), launcher.name)
    if not is_described(launcher):
        remedy = "add `model:` with a Hugging Face id, a folder or a file"
        scope.document.fault(entry.where, f"{launcher.name} needs a `model`", remedy)
        return None
    return Source("hub", "")  # a program of the user's own may know its model


def _lora(scope: Scope, entry: Entry) -> dict[str, str]:
    """The adapters that are fine; the faults of the others are in the document."""
    found: dict[str, str] = {}
    for name, text in entry.values.lora.items():
        where = (*entry.where, "lora", name)
        source = sources.resolve(scope, text, where)
        if source is not None and source.where == "modelscope":
            scope.document.fault(where, "an adapter on ModelScope", "download it, and give its folder")
        elif source is not None:
            found[name] = source.value
    return found


def _rehearsed(scope: Scope, launcher: Launcher, spec: EngineSpec, entry: Entry) -> EngineSpec | None:
    """Builds the command as the fleet will, so that what the launcher refuses is known before anything starts."""
    try:
        command = launcher.command(launch(spec, port=1, key="", gpus=first_share(spec)))
    except Refusal as refusal:
        refused(scope, refusal, entry)
        return None
    return msgspec.structs.replace(spec, paths=frozenset(command.paths))

"""A model with `engine:`: its launcher, options, program and GPUs, and the command as a rehearsal."""

import shlex
import sys
from pathlib import Path
from typing import Any

import msgspec

from launchers import LAUNCHERS
from launchers.base import Launcher, Program, Refusal, Source
from router.config import gpus, sources
from router.config.convert import convert, nearest
from router.config.document import ABSENT
from router.config.entries import Entry
from router.config.faults import Where
from router.config.reading import ENGINE_VARIABLES
from router.config.schema import RouterFile
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
    if launcher.recipes:
        _check_variables(scope, options, (*entry.where, "options"))
    source = _source(scope, launcher, entry)
    request = gpus.request(scope, entry.values.gpus, entry.place("gpus"), entry.values.accelerator)
    program = None if typed is ABSENT else _program(scope, launcher, entry, typed, engines_dir)
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
        return sources.resolve(scope, entry.values.model, (*entry.where, "model"))
    if launcher.recipes:
        remedy = "add `model:` with a Hugging Face id, a folder or a file"
        scope.document.fault(entry.where, f"{launcher.name} needs a `model`", remedy)
        return None
    return Source("hub", "")  # a program of the user's own may know its model


def _program(scope: Scope, launcher: Launcher, entry: Entry, options: Any, engines_dir: Path) -> Program | None:
    if "environment" in entry.bad:
        return None
    named = scope.path(entry.values.environment) if entry.values.environment else None
    if named and not _exists(named):
        problem = f"no file or folder {scope.document.show(str(named))}"
        scope.document.fault(entry.place("environment"), problem, "give an existing environment or program")
        return None
    try:
        places = [named] if named else [*_places(launcher, engines_dir), scope.path(".")]
        program = launcher.find(places, options)
    except Refusal as refusal:
        _refused(scope, refusal, entry)
        return None
    except OSError as error:
        scope.document.fault((*entry.where, "engine"), f"cannot be looked for: {error.strerror}", "mend its path")
        return None
    if program is None and not launcher.recipes:
        remedy = "give its whole path, or name its environment with `environment:`"
        scope.document.fault(
            (*entry.where, "options", "argv", 0), f"no program {scope.document.show(options.argv[0])}", remedy
        )
    elif program is None or (named and launcher.recipes and not _inside(program, named)):
        _missing(scope, launcher, entry, options, engines_dir)
        return None
    return program


def _missing(scope: Scope, launcher: Launcher, entry: Entry, options: Any, engines_dir: Path) -> None:
    if entry.values.environment:
        shown = scope.document.show(str(scope.path(entry.values.environment)))
        command = _install(scope, launcher, entry, options, engines_dir)
        remedy = f"install it there, or leave `environment` out and run `{command}`"
        scope.document.fault(entry.place("environment"), f"{shown} holds no {launcher.name}", remedy)
        return
    remedy = (
        f"run `{_install(scope, launcher, entry, options, engines_dir)}`, or name its environment with `environment:`"
    )
    scope.document.fault((*entry.where, "engine"), f"{launcher.name} is not installed", remedy)


def _install(scope: Scope, launcher: Launcher, entry: Entry, options: Any, engines_dir: Path) -> str:
    """The command that brings it to where it is looked for."""
    words, wanted = ["router", "install", launcher.name], entry.values.gpus
    form: str = getattr(options, "form", "")
    if form in launcher.recipes and form != next(iter(launcher.recipes)):
        words += ["--form", form]
    elif "cpu" in launcher.recipes and (wanted in ("none", 0) or (wanted is None and not scope.gpus)):
        words += ["--cpu"]
    if engines_dir != scope.path(RouterFile(models={}).engines_dir):
        words += ["--dir", str(engines_dir)]
    return shlex.join(words)


def _places(launcher: Launcher, engines_dir: Path) -> list[Path]:
    """Where an engine is looked for: what `router install` made, then the router's own environment."""
    made = [engines_dir / launcher.name, *(engines_dir / f"{launcher.name}-{form}" for form in launcher.recipes)]
    return [*(place for place in made if _exists(place)), Path(sys.prefix)]


def _inside(program: Program, place: Path) -> bool:
    """Whether the program is one of the environment that was named, and not one that stands on PATH."""
    folder = place if place.is_dir() else place.parent
    return Path(program.argv[0]).is_relative_to(folder)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _rehearsed(scope: Scope, launcher: Launcher, spec: EngineSpec, entry: Entry) -> EngineSpec | None:
    """Builds the command as the fleet will, so that what the launcher refuses is known before anything starts."""
    try:
        command = launcher.command(launch(spec, port=1, key="", gpus=first_share(spec)))
    except Refusal as refusal:
        _refused(scope, refusal, entry)
        return None
    return msgspec.structs.replace(spec, paths=frozenset(command.paths))


def _refused(scope: Scope, refusal: Refusal, entry: Entry) -> None:
    scope.document.fault((*entry.where, *refusal.field.split(".")), refusal.problem, refusal.remedy)

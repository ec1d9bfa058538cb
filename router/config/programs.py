"""The program that an engine is: where it is looked for, and what to do where it is not."""

import shlex
import sys
from pathlib import Path
from typing import Any

from launchers.base import Launcher, Program, Refusal
from router.config.entries import Entry
from router.config.schema import RouterFile
from router.config.scope import Scope


def is_described(launcher: Launcher) -> bool:
    """Whether it starts any program, which the model's own options describe."""
    return "argv" in launcher.Options.__struct_fields__


def refused(scope: Scope, refusal: Refusal, entry: Entry) -> None:
    scope.document.fault((*entry.where, *refusal.field.split(".")), refusal.problem, refusal.remedy)


def resolve(scope: Scope, launcher: Launcher, entry: Entry, options: Any, engines_dir: Path) -> Program | None:
    """None with its fault in the document."""
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
        refused(scope, refusal, entry)
        return None
    except OSError as error:
        scope.document.fault((*entry.where, "engine"), f"cannot be looked for: {error.strerror}", "mend its path")
        return None
    if program is None and is_described(launcher):
        remedy = "give its whole path, or name its environment with `environment:`"
        scope.document.fault(
            (*entry.where, "options", "argv", 0), f"no program {scope.document.show(options.argv[0])}", remedy
        )
    elif program is None or (named and not is_described(launcher) and not _inside(program, named)):
        _missing(scope, launcher, entry, options, engines_dir)
        return None
    return program


def _missing(scope: Scope, launcher: Launcher, entry: Entry, options: Any, engines_dir: Path) -> None:
    command = _install(scope, launcher, entry, options, engines_dir)
    if entry.values.environment:
        shown = scope.document.show(str(scope.path(entry.values.environment)))
        instead = f", or leave `environment` out and run `{command}`" if command else ", or name where it is"
        scope.document.fault(
            entry.place("environment"), f"{shown} holds no {launcher.name}", f"install it there{instead}"
        )
        return
    remedy = f"run `{command}`" if command else "install it as its own pages say, so that it is on PATH"
    place = (*entry.where, "engine")
    scope.document.fault(
        place, f"{launcher.name} is not installed", f"{remedy}, or name its environment with `environment:`"
    )


def _install(scope: Scope, launcher: Launcher, entry: Entry, options: Any, engines_dir: Path) -> str:
    """The command that brings it to where it is looked for; empty where there is none."""
    if not launcher.recipes:
        return ""
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
    """Whether the program is one of the environment that was named, and not one that stands on PATH. Its first word may
    be an interpreter that a script names, or a program that changes folders."""
    folder = place if place.is_dir() else place.parent
    return any(Path(word).is_relative_to(folder) for word in program.argv)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False

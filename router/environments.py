"""Environments of engines: a virtual environment each, filled from a lock that ships with the launchers."""

import hashlib
import re
import shutil
import subprocess
import sys
import venv
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from os import environ
from pathlib import Path

import launchers
from launchers.base import Launcher, Recipe

FOLDER = Path(launchers.__file__).parent
LOCKS = FOLDER / "locks"
STAMP = ".engine-router"
"""Made first, filled last: one that is empty, or another recipe's, belongs to an environment to be made anew. A folder
without it is somebody else's."""

Report = Callable[[int, int, str], None]
"""Steps done, steps in all, and what is being done."""


class InstallFailed(Exception):
    """The environment could not be made. The message says what failed and where the whole output is."""


def choose(launcher: Launcher, *, cpu: bool, form: str | None) -> str:
    """The recipe's name. Raises InstallFailed that names those there are."""
    names = list(launcher.recipes)
    if not names:
        raise InstallFailed(f"{launcher.name} has nothing to install: it runs the program that the file names")
    wanted = form or ("cpu" if cpu and "cpu" in names else names[0])
    if wanted not in names:
        raise InstallFailed(f"{launcher.name} has no form {wanted!r}; it has {', '.join(names)}")
    return wanted


def folder(launcher: Launcher, name: str, engines_dir: Path) -> Path:
    """Where an environment stands: GPU and CPU builds share a name, other forms have their own."""
    plain = name in ("cpu", "gpu") or name == next(iter(launcher.recipes))
    return engines_dir / (launcher.name if plain else f"{launcher.name}-{name}")


def install(recipe: Recipe, target: Path, report: Report) -> bool:
    """Makes the environment; False if it was complete already. Raises InstallFailed."""
    stamp = _fingerprint(recipe)
    if (target / STAMP).exists():
        if (target / STAMP).read_text() == stamp:
            return False
        shutil.rmtree(target, ignore_errors=True)
    elif target.exists() and any(target.iterdir()):
        raise InstallFailed(f"{target} was not made by `router install`; move it away, or name another --dir")
    target.mkdir(parents=True, exist_ok=True)
    (target / STAMP).touch()
    packages = len(_pins(recipe))
    total = 2 * packages + 1
    report(0, total, "making the virtual environment")
    venv.create(target, with_pip=True, symlinks=True)
    _install_lock(recipe, target, lambda done, text: report(min(done, total - 1), total, text))
    if recipe.script:
        report(total - 1, total, f"building {', '.join(recipe.build) or recipe.script} (minutes)")
        _run([str(target / "bin/python"), "-I", str(FOLDER / recipe.script)], recipe.env, target)
    if not any(target.glob(recipe.check)):
        raise InstallFailed(f"{target} lacks {recipe.check} after everything was installed")
    (target / STAMP).write_text(stamp)
    report(total, total, "done")
    return True


def _install_lock(recipe: Recipe, target: Path, report: Callable[[int, str], None]) -> None:
    """From the indexes that the user's pip knows."""
    # pip builds in the folder itself, and ours may not be ours to write in.
    stubs = [str(shutil.copytree(LOCKS / stub, target / "stubs" / stub)) for stub in recipe.stubs]
    pip = [str(target / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    argv = [*pip, "-r", str(LOCKS / recipe.lock), *stubs]
    try:
        _run(argv, recipe.env, target, _Progress(recipe, report))
    except InstallFailed as failure:
        if recipe.missing and "No matching distribution" in str(failure):
            raise InstallFailed(f"{failure}\n{recipe.missing}") from None
        raise


class _Progress:
    """Follows pip's output: each package counts once when it is found and once when all are installed."""

    def __init__(self, recipe: Recipe, report: Callable[[int, str], None]) -> None:
        self._done, self._packages, self._report = 0, len(_pins(recipe)), report

    def __call__(self, line: str) -> None:
        if match := re.match(r"(?:Collecting|Processing) (\S+)", line):
            self._done += 1
            self._report(self._done, match[1].rsplit("/", 1)[-1])
        elif match := re.match(r"Building wheel for (\S+)", line.strip()):
            self._report(self._done, f"compiling {match[1]} (minutes)")
        elif line.startswith("Installing collected packages"):
            self._report(self._packages + self._packages // 2, "unpacking")


def _run(argv: list[str], env: Mapping[str, str], target: Path, follow: Callable[[str], None] = lambda _: None) -> None:
    """Runs a step with its output in `install.log`. Raises InstallFailed with the last lines."""
    log = target / "install.log"
    tail: deque[str] = deque(maxlen=8)
    whole = {**environ, **env, "PYTHONUNBUFFERED": "1"}
    if (own := environ.get("CMAKE_ARGS")) and "CMAKE_ARGS" in env:
        whole["CMAKE_ARGS"] = f"{env['CMAKE_ARGS']} {own}"  # of two settings cmake takes the last: the user's
    with (
        log.open("a", encoding="utf-8") as copy,
        subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", env=whole
        ) as process,
    ):
        for line in process.stdout or ():
            copy.write(line)
            tail.append(line.rstrip())
            follow(line)
    if process.returncode:
        raise InstallFailed(f"{Path(argv[0]).name} {argv[2]} failed ({log}):\n" + "\n".join(tail))


def _pins(recipe: Recipe) -> list[str]:
    return list(_requirements((LOCKS / recipe.lock).read_text()))


def _requirements(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith(("#", "-")):
            yield line.strip()


def _fingerprint(recipe: Recipe) -> str:
    parts = [(LOCKS / recipe.lock).read_text(), repr(recipe), sys.version]
    if recipe.script:
        parts.append((FOLDER / recipe.script).read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()

"""Looking for an engine on disk. A place is an environment's folder, a Python interpreter, or an engine's program."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


def find(places: Sequence[Path], name: str) -> Path | None:
    """The program `name` in the first place that has it, else on PATH."""
    near = next((found for place in places if (found := inside(place, name))), None)
    return near or on_path(name)


def inside(place: Path, name: str) -> Path | None:
    """The program `name` of one place: the place itself, in its `bin`, in it, or beside the interpreter it names."""
    if place.is_dir():
        candidates = [place / "bin" / name, place / name]
    elif is_interpreter(place):
        candidates = [place.parent / name]
    else:
        candidates = [place] if place.name == name else []
    return next((found for found in candidates if found.is_file()), None)


def on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None


def interpreter_with(place: Path, package: str) -> Path | None:
    """The interpreter of one place, if its environment holds `package`. Nothing is run to find out."""
    python = place if is_interpreter(place) else place / "bin" / "python"
    # Not resolved: the target of a virtual environment's link is the system's interpreter.
    if python.is_file() and any((folder / package).is_dir() for folder in _packages(python.parent.parent)):
        return python
    return None


def own_interpreter() -> Path:
    """The interpreter that runs us: an extra of ours may have been installed beside us."""
    return Path(sys.executable)


def is_interpreter(place: Path) -> bool:
    return place.name.startswith("python") and place.is_file()


def _packages(prefix: Path) -> Iterator[Path]:
    for lib in ("lib", "lib64", "local/lib"):
        yield from prefix.glob(f"{lib}/python3*/*-packages")
    yield from prefix.glob("lib/python3/dist-packages")

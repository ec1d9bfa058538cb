"""What a user gets with `pip install engine-router`."""

import re
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from pip._vendor.packaging.markers import Marker

ROOT = Path(__file__).parent.parent
MOST = 25


def needs(name: str, extra: str = "") -> set[str]:
    """What `name` needs, and what that needs, on this machine."""
    found: set[str] = set()
    todo = [(name, extra)]
    while todo:
        name, extra = todo.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        found.add(key)
        for line in distribution(key).requires or []:
            requirement, _, marker = line.partition(";")
            if applies(marker, extra):
                name, extras = re.match(r"([\w.-]+)(?:\[([^\]]*)\])?", requirement).groups()
                todo.append((name, extras or ""))
    return found


def applies(marker: str, extra: str) -> bool:
    return not marker.strip() or Marker(marker.strip()).evaluate({"extra": extra})


def test_the_base_install_is_at_most_25_distributions() -> None:
    assert len(needs("engine-router")) <= MOST, sorted(needs("engine-router"))


def test_the_wheel_has_both_packages_with_the_locks_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"router", "launchers", "engine_router"}
    locks = {str(file.relative_to(ROOT)) for file in (ROOT / "launchers" / "locks").rglob("*") if file.is_file()}
    assert locks <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "demo/"))]

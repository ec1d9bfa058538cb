"""The arrows of ARCHITECTURE.md, held against the imports."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each room, and what it may import besides itself. The longest name that fits a module is its room.
ARROWS: dict[str, set[str]] = {
    "router": set(),
    "router.__main__": {"router.cli"},
    "router.cli": {"router", "router.app", "router.config", "router.console.client", "router.doctor",
                   "router.downloads", "router.environments", "router.fleet.files", "router.fleet.inventory",
                   "router.fleet.rows", "router.log", "router.sockets", "launchers"},
    "router.app": {"router", "router.process", "router.measures", "router.catalog", "router.config",
                   "router.console", "router.console.client",
                   "router.errors", "router.events", "router.fleet", "router.fleet.facts", "router.fleet.files",
                   "router.fleet.inventory",
                   "router.fleet.rows", "router.proxy", "router.sockets", "router.takeover"},
    "router.sockets": {"router.fleet.files"},
    "router.takeover": {"router.console.client", "router.fleet.files", "router.sockets"},
    "router.doctor": {"router", "router.config", "router.downloads", "router.fleet.diagnosis", "router.fleet.files",
                      "router.fleet.gguf_header", "router.fleet.inventory", "router.fleet.rows",
                      "router.proxy.dialects.tokens"},
    "router.downloads": {"router.config"},
    "router.log": set(),
    "router.environments": {"launchers"},
    "router.config": {"launchers"},
    "router.catalog": {"router.errors", "launchers"},
    "router.errors": set(),
    "router.measures": set(),
    "router.process": set(),
    "router.events": set(),
    "router.proxy": {"router.catalog", "router.errors", "router.measures", "router.proxy.headers",
                     "router.proxy.dialects.tokens", "router.proxy.paths", "launchers"},
    "router.proxy.headers": set(),
    "router.proxy.dialects.tokens": {"router.errors"},
    "router.proxy.paths": set(),
    "router.fleet": {"router.catalog", "router.config", "router.downloads", "router.events", "router.fleet.diagnosis",
                     "router.fleet.facts", "router.fleet.files", "router.fleet.gguf_header",
                     "router.fleet.inventory", "router.fleet.keeper",
                     "router.fleet.rows", "launchers"},
    "router.fleet.diagnosis": set(),
    "router.fleet.facts": set(),
    "router.fleet.gguf_header": set(),
    "router.fleet.keeper": set(),
    "router.fleet.files": set(),
    "router.fleet.inventory": set(),
    "router.fleet.rows": {"router.fleet.diagnosis"},
    "router.console": {"router", "router.catalog", "router.errors", "router.measures", "router.fleet.facts",
                       "router.fleet.inventory", "router.fleet.rows",
                       "router.proxy.paths"},
    "router.console.client": {"router.fleet.rows"},
    "launchers": set(),
    "demo": set(),
}  # fmt: skip


def room(module: str) -> str:
    module = re.sub(r"^router\.fleet\.keeper_\w+", "router.fleet.keeper", module)
    return max((name for name in ARROWS if module == name or module.startswith(f"{name}.")), key=len)


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("router", "launchers", "demo"):
        for file in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), file


def imports(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*whole.split("."))).with_suffix(".py").exists()
                yield node.lineno, whole if is_module else str(node.module)


@pytest.mark.parametrize(("module", "file"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_each_room_imports_only_what_the_arrows_allow(module: str, file: Path) -> None:
    here = room(module)
    wrong = [
        f"{file.name}:{line} imports {name}"
        for line, name in imports(file)
        if name.partition(".")[0] in ("router", "launchers", "demo", "tests")
        and room(name) != here
        and room(name) not in ARROWS[here]
    ]
    assert not wrong, f"{module} belongs to {here}, which may import {sorted(ARROWS[here])}"


def test_proxy_and_fleet_do_not_know_each_other() -> None:
    for here, other in (("router.proxy", "router.fleet"), ("router.fleet", "router.proxy")):
        assert not any(name.startswith(other) for name in ARROWS[here])


def test_the_keeper_needs_the_standard_library_alone() -> None:
    for module, file in modules():
        if module.startswith("router.fleet.keeper"):
            for line, name in imports(file):
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names or name.startswith("router.fleet.keeper"), (
                    f"{file}:{line}: {name}"
                )


def test_no_file_outgrows_one_noun() -> None:
    """Past about 400 lines there is a second noun."""
    long = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for _, file in modules()}
    assert not {name: lines for name, lines in long.items() if lines > 420}

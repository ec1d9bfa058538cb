"""Where an engine is looked for, and that it is the one of the environment that was named."""

from pathlib import Path

import pytest
from checking import faults, read

from launchers.base import Program
from router.config import EngineSpec


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SGLang in `real`, whose other name is `link`, and another one on PATH; speaches in its sources."""
    for place in ("real", "path"):
        (tmp_path / place / "bin").mkdir(parents=True)
        (tmp_path / place / "bin/python").touch()
        (tmp_path / place / "bin/sglang").write_text(f"#!{tmp_path}/{place}/bin/python\n")
        (tmp_path / place / "bin/sglang").chmod(0o755)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "empty").mkdir()
    (tmp_path / "src/.venv/lib/python3.12/site-packages/speaches").mkdir(parents=True)
    (tmp_path / "src/.venv/bin").mkdir()
    (tmp_path / "src/.venv/bin/python").touch()
    monkeypatch.setenv("PATH", str(tmp_path / "path/bin"))
    return tmp_path


def file(engine: str, environment: str) -> str:
    return f"models: {{a: {{engine: {engine}, environment: {environment}, model: org/name}}}}"


def program(folder: Path, engine: str, environment: str) -> Program:
    (spec,) = read(folder, file(engine, environment)).models
    assert isinstance(spec, EngineSpec)
    return spec.program


@pytest.mark.parametrize("environment", ["real", "link", "real/bin/python", "link/bin/sglang"])
def test_a_script_that_names_its_interpreter_by_another_path_is_of_the_environment(
    engines: Path, environment: str
) -> None:
    *_, script = program(engines, "sglang", environment).argv
    assert script == f"{engines}/{environment.partition('/')[0]}/bin/sglang"


@pytest.mark.parametrize("environment", ["src/.venv", "src/.venv/bin/python"])
def test_an_engine_that_is_started_by_another_program_is_of_the_environment(engines: Path, environment: str) -> None:
    assert str(engines / "src/.venv/bin/python") in program(engines, "speaches", environment).argv


@pytest.mark.parametrize("engine", ["sglang", "speaches"])
def test_one_on_path_is_not_of_the_environment(engines: Path, engine: str) -> None:
    (fault,) = faults(engines, file(engine, "empty"))
    assert fault.startswith(f'1 models.a.environment: "DIR/empty" holds no {engine}; install it there, or ')

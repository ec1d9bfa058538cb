import sys
from pathlib import Path

import msgspec
import pytest

from launchers import LAUNCHERS, programs
from launchers.base import Program
from launchers.llamacpp_options import LlamaCppOptions


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment's folder with vLLM in it."""
    for name in ("python", "vllm", "infinity_emb"):
        touch(tmp_path / "bin" / name)
    return tmp_path


@pytest.mark.parametrize("place", [".", "bin", "bin/python", "bin/vllm"])
def test_an_engine_is_found_by_its_environment_its_interpreter_or_itself(environment: Path, place: str) -> None:
    assert programs.inside(environment / place, "vllm") == environment / "bin" / "vllm"


def test_a_place_that_is_another_program_has_no_engine(environment: Path) -> None:
    assert programs.inside(environment / "bin" / "infinity_emb", "vllm") is None
    assert programs.inside(environment / "absent", "vllm") is None


@pytest.mark.parametrize(("engine", "program"), [("vllm", "vllm"), ("infinity", "infinity_emb")])
def test_the_first_place_that_has_it_wins(environment: Path, tmp_path: Path, engine: str, program: str) -> None:
    launcher = LAUNCHERS[engine]
    found = launcher.find([tmp_path / "nothing", environment], launcher.Options())
    assert found == Program((str(environment / "bin" / program),))


def llamacpp(places: list[Path], form: str = "auto") -> Program | None:
    return LAUNCHERS["llamacpp"].find(places, msgspec.convert({"form": form}, LlamaCppOptions))


def test_forms_of_llamacpp_are_tried_in_order_in_each_place(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    python = touch(tmp_path / "bin" / "python")
    (packages / "llama_cpp").mkdir(parents=True)
    assert llamacpp([tmp_path]) == Program((str(python), "-I", "-u", "-m", "llama_cpp.server"), "python")
    (packages / "xllamacpp").mkdir()
    wrapper = llamacpp([python])
    assert wrapper is not None
    assert wrapper.form == "xllamacpp"
    assert wrapper.argv[:3] == (str(python), "-I", "-u")
    assert Path(wrapper.argv[3]).is_file()
    server = touch(tmp_path / "bin" / "llama-server")
    assert llamacpp([tmp_path]) == Program((str(server),), "server")
    asked = llamacpp([tmp_path], "python")
    assert asked is not None
    assert asked.form == "python"


def test_llama_server_is_found_in_a_build_folder_and_as_itself(tmp_path: Path) -> None:
    server = touch(tmp_path / "llama-server")
    assert llamacpp([tmp_path]) == llamacpp([server]) == Program((str(server),), "server")


def test_the_last_resorts_are_path_and_the_routers_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = touch(tmp_path / "on-path" / "llama-server")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(server.parent))
    assert llamacpp([tmp_path]) == Program((str(server),), "server")
    monkeypatch.setenv("PATH", str(tmp_path))
    python = touch(tmp_path / "own" / "bin" / "python3")
    (tmp_path / "own" / "lib" / "python3.12" / "site-packages" / "xllamacpp").mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(python))
    found = llamacpp([])
    assert found is not None
    assert (found.argv[0], found.form) == (str(python), "xllamacpp")

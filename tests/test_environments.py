"""`router install`: real virtual environments, real pip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launchers import LAUNCHERS
from router.environments import STAMP, InstallFailed, choose, folder


def router(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "router", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **env}, check=False)


def test_an_engine_is_installed_once_and_then_found(tmp_path: Path) -> None:
    first = router("install", "llamacpp", "--dir", str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert "is installed" in first.stdout
    stamp = (tmp_path / "llamacpp" / STAMP).stat().st_mtime_ns
    second = router("install", "llamacpp", "--dir", str(tmp_path))
    assert "was installed already" in second.stdout
    assert (tmp_path / "llamacpp" / STAMP).stat().st_mtime_ns == stamp

    model = tmp_path / "model.gguf"
    model.touch()
    file = tmp_path / "router.yaml"
    file.write_text(f"engines_dir: {tmp_path}\nmodels:\n  chat: {{engine: llamacpp, model: {model}}}\n")
    check = router("check", "-c", str(file))
    assert str(tmp_path / "llamacpp" / "bin" / "python") in check.stdout, check.stderr


def test_an_environment_that_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "llamacpp").mkdir()
    (tmp_path / "llamacpp" / "leftover").touch()
    (tmp_path / "llamacpp" / STAMP).touch()
    assert router("install", "llamacpp", "--dir", str(tmp_path)).returncode == 0
    assert not (tmp_path / "llamacpp" / "leftover").exists()


def test_a_folder_that_somebody_else_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "llamacpp").mkdir()
    (tmp_path / "llamacpp" / "precious").touch()
    result = router("install", "llamacpp", "--dir", str(tmp_path))
    assert result.returncode == 1
    assert "move it away, or name another --dir" in result.stderr
    assert (tmp_path / "llamacpp" / "precious").exists()


def test_a_failure_says_what_pip_said_and_where_the_whole_output_is(tmp_path: Path) -> None:
    result = router("install", "llamacpp", "--dir", str(tmp_path), PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    assert result.returncode == 1
    assert "No matching distribution found for xllamacpp" in result.stderr
    assert str(tmp_path / "llamacpp" / "install.log") in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "llamacpp" / STAMP).read_text()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = router("install", "llamacpp", "--dir", str(tmp_path / "file"))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert str(tmp_path / "file") in result.stderr


def test_the_recipe_is_the_gpu_build_unless_asked_otherwise() -> None:
    assert choose(LAUNCHERS["vllm"], cpu=False, form=None) == "gpu"
    assert choose(LAUNCHERS["vllm"], cpu=True, form=None) == "cpu"
    assert choose(LAUNCHERS["llamacpp"], cpu=True, form=None) == "xllamacpp"
    assert choose(LAUNCHERS["llamacpp"], cpu=False, form="server") == "server"
    with pytest.raises(InstallFailed, match="no form 'rust'; it has xllamacpp, python, server"):
        choose(LAUNCHERS["llamacpp"], cpu=False, form="rust")


def test_builds_for_gpu_and_cpu_share_a_folder_and_other_forms_have_their_own() -> None:
    vllm, llamacpp = LAUNCHERS["vllm"], LAUNCHERS["llamacpp"]
    assert folder(vllm, "cpu", Path("/e")) == folder(vllm, "gpu", Path("/e")) == Path("/e/vllm")
    assert folder(llamacpp, "xllamacpp", Path("/e")) == Path("/e/llamacpp")
    assert folder(llamacpp, "server", Path("/e")) == Path("/e/llamacpp-server")


def test_a_pin_that_no_index_has_comes_with_the_remedy(tmp_path: Path) -> None:
    result = router(
        "install", "infinity", "--cpu", "--dir", str(tmp_path), PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull
    )
    assert result.returncode == 1
    assert "set PIP_EXTRA_INDEX_URL to it" in result.stderr

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds a model's file, and an environment with vLLM and transformers in it. Of this machine's PATH nothing is
    found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "m.gguf").touch()
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/vllm").touch()
    (tmp_path / "venv/bin/transformers").touch()
    return tmp_path

"""The same on real engines: llama.cpp, out of its wheel."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from running import Up, is_alive, until

MODELS = Path(__file__).parents[2] / ".demo"

pytest.importorskip("xllamacpp")


def real(name: str, **fields: Any) -> dict[str, Any]:
    return {"engine": "llamacpp", "model": str(MODELS / name), "options": {"threads": 1}, **fields}


@pytest.mark.parametrize("when", ["starting", "ready"])
@pytest.mark.parametrize("how", [signal.SIGINT, "down"])
def test_nothing_of_real_engines_is_left(up: Up, when: str, how: signal.Signals | str) -> None:
    up.write({"chat": real("chat.gguf"), "embed": real("embedding.gguf", kind="embedding")}).started()
    if when == "ready":
        up.wait_for("ready")
    up.look()
    assert (up.end(how) if isinstance(how, signal.Signals) else up.cli("down").returncode) == 0
    assert up.left() == []


def test_a_real_engine_that_is_killed_comes_back(up: Up) -> None:
    up.ready({"chat": real("chat.gguf")})
    pid = up.row().pid or 0
    os.kill(pid, signal.SIGKILL)
    until(lambda: up.row().restarts == 1 and up.row().state == "ready")
    assert not is_alive(pid)
    assert up.states("chat") == ["starting", "ready", "failed", "starting", "ready"]


def test_a_real_engine_with_a_broken_model_says_why(up: Up) -> None:
    model = up.folder / "broken.gguf"
    model.write_bytes(b"GGUF but no more")
    up.write({"chat": real(str(model))}).start()
    until(lambda: up.rows() and up.row().state == "failed")
    assert "cannot serve" in (up.row().error or "")

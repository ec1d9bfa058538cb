"""Xinference's own client, from PyPI, against a router with real llama.cpp engines."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from running import Up, fake

from demo.__main__ import make as make_models

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
PYTHON = REPOSITORY / ".clients/bin/python"
ADMIN, USER = "the-key-of-an-admin", "the-key-of-a-user"


def session(up: Up, *key: str) -> subprocess.CompletedProcess[str]:
    if not PYTHON.exists():
        pytest.fail(f"the clients are not installed in {PYTHON.parents[1]}: run `make clients`")
    argv = [str(PYTHON), str(HERE / "xinference_session.py"), up.address, *key]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def models() -> dict[str, Any]:
    make_models(REPOSITORY / ".demo", "gguf")

    def real(name: str, **fields: Any) -> dict[str, Any]:
        file = REPOSITORY / ".demo" / f"{name}.gguf"
        return {"engine": "llamacpp", "model": str(file), "stop_grace": "5s", "options": {"threads": 1}, **fields}

    elsewhere = {"url": "http://127.0.0.1:9/v1"}
    return {
        "chat": real("chat", aliases=["gpt"]),
        "embed": real("embedding", kind="embedding"),
        "rerank": real("rerank", kind="rerank"),
        "plain": fake(),
        "hears": {**elsewhere, "kind": "transcription"},
        "speaks": {**elsewhere, "kind": "speech"},
        "paints": {**elsewhere, "kind": "image"},
        "films": {**elsewhere, "kind": "video"},
    }


def test_its_classes_work_unchanged(up: Up) -> None:
    pytest.importorskip("xllamacpp")
    keys = [{"name": "admin", "key": ADMIN, "admin": True}, {"name": "user", "key": USER}]
    up.ready(models(), keys=keys)
    done = session(up, ADMIN)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["handles"] == {
        "chat": "RESTfulChatModelHandle",
        "gpt": "RESTfulChatModelHandle",
        "plain": "RESTfulChatModelHandle",
        "embed": "RESTfulEmbeddingModelHandle",
        "rerank": "RESTfulRerankModelHandle",
        "hears": "RESTfulAudioModelHandle",
        "speaks": "RESTfulAudioModelHandle",
        "paints": "RESTfulImageModelHandle",
        "films": "RESTfulVideoModelHandle",
    }
    described = told["described"]
    assert (described["model_format"], described["context_length"], described["replica"]) == ("gguf", 16384, 1)
    assert told["chat"]["choices"][0]["message"]["content"] == " the quick brown fox jumps"
    pieces = [choice["delta"].get("content") or "" for chunk in told["stream"] for choice in chunk["choices"]]
    assert "".join(pieces) == " the quick brown fox jumps"
    assert told["generate"]["choices"][0]["text"]
    assert len(told["embedding"]["data"][0]["embedding"]) == told["registration"]["dimensions"] == 64
    assert told["embedding"]["usage"]["total_tokens"] > 0
    assert sorted(each["index"] for each in told["rerank"]["results"]) == [0, 1, 2]
    assert {"model_name": "chat", "is_builtin": False} in told["registrations"]
    assert told["terminated"] is False
    assert told["instance"][0]["status"] == "TERMINATED"
    assert "it was terminated" in told["refused"]
    assert "Only models that the router's file declares" in told["unknown"]
    assert (told["launched"], told["progress"]["progress"]) == ("chat", 1.0)
    assert "close the connection" in told["abort"]
    assert told["again"]["choices"][0]["message"]["content"] == " the quick brown fox jumps"
    refused = session(up, USER)
    assert "RuntimeError: Failed to terminate model, detail: only a key with `admin: true`" in refused.stderr
    assert "RuntimeError: Failed to list model, detail: no API key" in session(up).stderr


def test_without_keys_it_needs_none_and_sends_none(up: Up) -> None:
    pytest.importorskip("xllamacpp")
    up.ready(models())
    done = session(up, "any key at all")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["launched"] == "chat"

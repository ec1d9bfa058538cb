"""The router's file under chaos: three models, two replicas each, on real engines but one; and the changes it knows."""

import sys
from pathlib import Path
from typing import Any

import msgspec

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / ".demo"
DRIPPING = Path(__file__).with_name("dripping.py")
KEY = "chaos-key-of-the-load"
REPLICAS = 2


MORE_KEY = "another-key"
MORE_ALIAS = "another-name"


class Change(msgspec.Struct, frozen=True):
    """A difference from the first file. `replaces`: the model whose engines are not the same afterwards."""

    name: str
    replaces: str = ""
    replicas: tuple[str, int] | None = None
    env: tuple[str, str] | None = None
    """A model, and what its engines have in the variable CHAOS_CHANGE."""
    key: bool = False
    """A second key, MORE_KEY."""
    alias: bool = False
    """Another name of chat, MORE_ALIAS."""


FIRST = Change("the first file")
CHANGES = (
    Change("a key more", key=True),
    Change("an alias more", alias=True),
    Change("a third replica of embed", replicas=("embed", 3)),
    Change("other options of chat", replaces="chat", env=("chat", "1")),
    Change("other options of drip", replaces="drip", env=("drip", "1")),
)


def models(change: Change, leave: str) -> dict[str, dict[str, Any]]:
    """`leave`: what the names of shared memory that may be left behind begin with."""
    llama = {"engine": "llamacpp", "options": {"form": "xllamacpp", "threads": 1}}
    argv = [sys.executable, "-S", str(DRIPPING), "--leave", leave, "--port", "${PORT}"]
    made: dict[str, dict[str, Any]] = {
        "chat": {**llama, "model": str(MODELS / "chat.gguf"), "aliases": ["gpt-4o-mini", *[MORE_ALIAS] * change.alias]},
        "embed": {**llama, "model": str(MODELS / "embedding.gguf"), "kind": "embedding"},
        "drip": {"engine": "command", "options": {"argv": argv, "served_name": "dripping"}},
    }
    for name, model in made.items():
        model["replicas"] = replicas(change)[name]
        if change.env is not None and change.env[0] == name:
            model["env"] = {"CHAOS_CHANGE": change.env[1]}
    return made


def replicas(change: Change) -> dict[str, int]:
    """How many each model has."""
    return dict.fromkeys(("chat", "embed", "drip"), REPLICAS) | dict([change.replicas] if change.replicas else [])


def settings(change: Change, port: int) -> dict[str, Any]:
    return {
        "listen": f"127.0.0.1:{port}",
        "keys": [{"name": "load", "key": KEY}, *[{"name": "more", "key": MORE_KEY}] * change.key],
        "orphan_grace": "30s",
        "drain_timeout": "5s",
        "log": {"max_size": "256KiB", "keep": 1},
        "defaults": {
            "start_timeout": "30s",
            "stop_grace": "1s",
            "queue_timeout": "60s",
            "response_timeout": "30s",
            "stall_timeout": "30s",
            "liveness_interval": "1s",
            "liveness_timeout": "2s",
            "liveness_failures": 3,
        },
    }

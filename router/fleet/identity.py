"""Whether a running engine is the one that the file asks for."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from launchers import LAUNCHERS
from launchers.base import Command
from router.config import EngineSpec, first_share, launch

Gpus = tuple[str, ...] | None


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a keeper keeps for a later router. `port` and `key` are how to speak to the engine; the rest says whether it
    is still wanted."""

    model: str
    replica: int
    port: int
    key: str
    gpus: Gpus
    fingerprint: str

    def __repr__(self) -> str:
        return f"Note({self.model}#{self.replica})"


def read_note(note: Mapping[str, Any]) -> Note | None:
    """None of a router of another kind."""
    try:
        return msgspec.convert(note, Note)
    except msgspec.ValidationError:
        return None


def command_of(spec: EngineSpec, port: int, key: str, gpus: Gpus) -> Command:
    """Raises Refusal: the launcher refused nothing when the file was checked, but what is on disk may have changed."""
    return LAUNCHERS[spec.engine].command(launch(spec, port=port, key=key, gpus=gpus))


def is_same(old: EngineSpec, new: EngineSpec) -> bool:
    """Whether the engines of one are those of the other, and are spoken to alike. Raises Refusal."""
    return _parts(old, command_of(old, 1, "key", first_share(old))) == _parts(
        new, command_of(new, 1, "key", first_share(new))
    )


def fingerprint(spec: EngineSpec, gpus: Gpus) -> str:
    """The same for two specs that lead to the same engine, whatever else they say. How it is spoken to is not in it: a
    router that adopts an engine may know more of its paths than the one that started it. Raises Refusal."""
    command = command_of(spec, 1, "key", gpus)
    run = [command.argv, command.env, command.scrub, command.served]
    return hashlib.sha256(msgspec.json.encode(_parts(spec, run), order="deterministic")).hexdigest()


def _parts(spec: EngineSpec, command: object) -> list[object]:
    """Of the environment only what the file and the launcher set: two shells differ in the rest."""
    # Named GPUs are shared out among the replicas.
    shares = spec.replicas if spec.gpus.mode == "ids" else 1
    return [command, spec.env, spec.gpus, shares, spec.program]

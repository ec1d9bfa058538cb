"""What one model asks of a hub."""

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import msgspec

from router.config import EngineSpec, RemoteSpec

DEFAULT_REVISION = {"hub": "main", "modelscope": "master"}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """`tag` is the GGUF quantisation of an id like `org/name:Q4_K_M`. `env` is the environment that the engine will
    have, so that both look into the same cache. `cache` is a folder that the engine alone is told to look into."""

    where: Literal["hub", "modelscope"]
    id: str
    tag: str
    revision: str
    env: Mapping[str, str]
    cache: str | None


def asked(spec: EngineSpec | RemoteSpec) -> Asked | None:
    """None where nothing comes from a hub: files of one's own, a server elsewhere, a program that knows its model."""
    if isinstance(spec, RemoteSpec) or not spec.source.value:
        return None
    where = spec.source.where
    if where not in ("hub", "modelscope"):
        return None
    name, _, tag = spec.source.value.partition(":")
    revision = flag(spec.args, "--revision") or getattr(spec.options, "revision", None) or DEFAULT_REVISION[where]
    env = {**os.environ, **spec.env}
    return Asked(where=where, id=name, tag=tag, revision=revision, env=env, cache=_cache(spec, env))


def _cache(spec: EngineSpec, env: Mapping[str, str]) -> str | None:
    if spec.engine == "vllm":
        return flag(spec.args, "--download-dir")
    return env.get("LLAMA_CACHE") if spec.program.form == "server" else None


def flag(args: Sequence[str], *names: str) -> str | None:
    """The value of a flag among an engine's raw `args`, written with a space or with `=`; the last one rules."""
    words = [*(word for arg in args for word in arg.split("=", 1)), ""]
    given = [value for name, value in pairwise(words) if name in names]
    return given[-1] if given else None

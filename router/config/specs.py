"""What the rest of the router works with: the file resolved. Names looked up, paths absolute, times in seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from launchers.base import Kind, Launch, Program, Source
from launchers.devices import Accelerator
from router.config.values import Secret


class GpuRequest(msgspec.Struct, frozen=True):
    """`inherit`: nothing is set; `none`; `count` of them, placed by the fleet; or these `ids` (NVML indices)."""

    mode: Literal["inherit", "none", "count", "ids"] = "inherit"
    count: int = 0
    ids: tuple[str, ...] = ()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A model's times in seconds, the length of its queue, and the share of its requests that may be sent again."""

    queue_timeout: float
    queue_size: int
    connect_timeout: float
    response_timeout: float
    stall_timeout: float
    keepalive: float = 10.0
    retry_budget: float = 0.2


class Care(msgspec.Struct, frozen=True, kw_only=True):
    """How a ready engine is watched; times in seconds."""

    liveness_interval: float
    liveness_timeout: float
    liveness_failures: int
    deep_probe: bool


class Edits(msgspec.Struct, frozen=True, kw_only=True):
    """How a request's JSON is changed on its way: `drop` first (a dot leads inside), then `default` where the client
    said nothing, then `set`. Mappings are merged into the client's; null is a value."""

    drop: tuple[str, ...] = ()
    set: Mapping[str, Any] = {}
    default: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        """Without the values: they may hold secrets."""
        return f"Edits(drop={list(self.drop)}, set={list(self.set)}, default={list(self.default)})"


class Wants(msgspec.Struct, frozen=True, kw_only=True):
    """What the file wants of a model's answers and inputs that the engine itself does not do."""

    normalize_scores: bool = False
    decode_openai_tokens: bool = False
    max_inputs: int | None = None


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose engines are started here. `edits` are by public name: the model's, an alias', a LoRA adapter's;
    `lora` has each adapter's absolute path, or its hub id; `fallback` are public names."""

    name: str
    kind: Kind
    aliases: tuple[str, ...]
    limits: Limits
    engine: str
    program: Program
    source: Source
    options: Any
    args: tuple[str, ...]
    env: Mapping[str, str]
    replicas: int
    gpus: GpuRequest
    accelerator: Accelerator
    paths: frozenset[str]
    memory: int | None
    care: Care
    start_timeout: float
    stop_grace: float
    retire_timeout: float
    edits: Mapping[str, Edits] = {}
    fallback: tuple[str, ...] = ()
    wants: Wants = Wants()
    info: Mapping[str, Any] = {}
    lora: Mapping[str, str] = {}

    def __repr__(self) -> str:
        """Without the values: `env`, `args` and `options` may hold secrets."""
        return f"EngineSpec({self.name}, {self.replicas} x {self.engine})"


class RemoteSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a server elsewhere serves. `prefix` stands in place of the public paths' `/v1`."""

    name: str
    kind: Kind
    aliases: tuple[str, ...]
    limits: Limits
    host: str
    port: int
    tls: bool
    prefix: str
    key: Secret | None
    upstream_model: str
    edits: Mapping[str, Edits] = {}
    fallback: tuple[str, ...] = ()
    wants: Wants = Wants()
    info: Mapping[str, Any] = {}


class GroupSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A name over several models, which are no groups. `members` are public names, each with its weight of 1 to 1000;
    `kind` is that of all of them."""

    name: str
    kind: Kind
    aliases: tuple[str, ...]
    members: tuple[tuple[str, int], ...]
    edits: Mapping[str, Edits] = {}
    fallback: tuple[str, ...] = ()
    info: Mapping[str, Any] = {}


class KeySpec(msgspec.Struct, frozen=True):
    """A client's key as its SHA-256."""

    name: str
    digest: bytes
    admin: bool = False


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file, checked."""

    file: Path
    models: tuple[EngineSpec | RemoteSpec, ...]
    groups: tuple[GroupSpec, ...]
    host: str
    port: int
    keys: tuple[KeySpec, ...]
    state_dir: Path
    engines_dir: Path
    max_body: int
    body_timeout: float
    send_timeout: float
    drain_timeout: float
    orphan_grace: float
    log_format: Literal["text", "json"]
    log_access: bool
    log_max_size: int
    log_keep: int
    secrets: frozenset[str]
    """The environment's variables that hold a key: not for engines."""


def launch(spec: EngineSpec, *, port: int, key: str, gpus: tuple[str, ...] | None) -> Launch:
    """What the launcher is told about one replica of `spec`."""
    return Launch(
        name=spec.name,
        kind=spec.kind,
        source=spec.source,
        options=spec.options,
        args=spec.args,
        port=port,
        key=key,
        gpus=gpus,
        accelerator=spec.accelerator,
        lora=spec.lora,
        program=spec.program,
    )


def first_share(spec: EngineSpec) -> tuple[str, ...] | None:
    """The GPUs of the first replica as far as a command depends on them: the right ones, or only the right number."""
    request = spec.gpus
    if request.mode == "inherit":
        return None
    if request.mode == "count":
        return tuple(map(str, range(request.count)))
    share, rest = divmod(len(request.ids), spec.replicas)
    return request.ids if rest else request.ids[:share]

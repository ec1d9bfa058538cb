"""What a launcher is: it describes how one stock engine is started, asked and understood. It spawns nothing.

A launcher is a frozen value with four parts, all pure:

- `Options`, a `msgspec.Struct` whose field descriptions are the documentation of `options:` in the YAML file;
- `find(places, options)`, which looks for the engine's program on disk;
- `command(launch)`, which turns one `Launch` into one `Command`;
- `recipes`, how `router install` makes an environment for it.

Nothing here imports `router`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from launchers.devices import Accelerator

Kind = Literal["chat", "embedding", "rerank", "transcription", "speech", "image", "video"]


class Refusal(Exception):
    """A launcher cannot do what one model's configuration asks.

    `field` is the path below the model (`options.form`, `model`), `problem` says what is wrong, `remedy` what to do.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}; {remedy}")
        self.field, self.problem, self.remedy = field, problem, remedy


class Source(msgspec.Struct, frozen=True):
    """Where a model's weights are: a Hugging Face id (`hub`), a ModelScope id, the path of a folder or a file, or what
    the engine's own library calls it."""

    where: Literal["hub", "modelscope", "folder", "file", "library"]
    value: str


class Program(msgspec.Struct, frozen=True):
    """An engine that was found on disk: the first words of its argv, and which of the launcher's forms it is."""

    argv: tuple[str, ...]
    form: str = ""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a launcher may know about one replica that is to start.

    `gpus` is None when the file says nothing (the engine decides), empty for "none", else NVML indices or UUIDs.
    `args` are the user's raw flags, appended last. `key` is the engine's own random API key; it goes into the
    environment, never into argv, where other users could read it. `lora`: the LoRA adapters by their public names, each
    a path or a hub id; a launcher whose engine cannot serve them refuses (`field` is `lora`).
    """

    name: str
    kind: Kind
    source: Source
    options: Any
    args: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int
    key: str
    gpus: tuple[str, ...] | None = None
    accelerator: Accelerator = "cuda"
    lora: Mapping[str, str] = {}
    program: Program


class Probe(msgspec.Struct, frozen=True):
    """GET `path` answers with one of `statuses` exactly when the engine can serve; with a `body`, POST of that JSON.

    `never`: statuses by which it says that it never will. `patience`: seconds for the answer; an engine that answers
    only when it has loaded is asked once. `key`: send the engine's key.
    """

    path: str
    statuses: tuple[int, ...] = (200,)
    key: bool = False
    body: bytes = b""
    never: tuple[int, ...] = ()
    patience: float = 5.0


class KeepAlive(msgspec.Struct, frozen=True):
    """How an engine treats idle connections: it closes them after `idle` seconds, or `requests` requests (0: never)."""

    idle: float
    requests: int = 0


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """Where an engine differs from what clients send it and expect of it. The defaults are an engine that does not.

    Of requests:
    `defaults`: members that it gets where the client says nothing, by public path. `takes`: the only members of a JSON
    body that it takes, by public path; others are left out on the way (a path that is not named takes all). `nulls`:
    whether it reads `null` as "not set"; else nulls at the top are left out.
    `max_inputs`: embeddings in one request; more are asked in parts. `tokens`: whether embeddings may be token numbers.
    `base64`: whether it has `encoding_format: base64`; else the router encodes its floats. `texts`: its rerank takes
    `texts` and answers with a bare list (TEI's), else `documents` and `results`.

    Of answers:
    `logits`: its rerank scores are not within 0 to 1. `counts`: it has `stream_options.include_usage`, so that the
    router may ask for it. `aborts`: it ends an answer that it gave up with `finish_reason: "abort"`, as if all were
    well.
    """

    defaults: Mapping[str, Mapping[str, Any]] = {}
    takes: Mapping[str, frozenset[str]] = {}
    nulls: bool = True
    max_inputs: int | None = None
    tokens: bool = True
    base64: bool = True
    texts: bool = False
    logits: bool = False
    counts: bool = False
    aborts: bool = False


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """How one replica is started and spoken to.

    `env` is set over the inherited environment, from which every name in `scrub` was dropped first (a trailing `*`
    matches a prefix); the model's own `env:` comes last. `served` is the name the engine calls the model in requests
    and answers. `paths` maps each public path (`router.proxy.paths`) that this engine and kind can serve to the
    engine's own. `concurrency` limits the requests in flight (None: the engine queues by itself). `names`: what the
    engine calls the LoRA adapters, by their public names.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    scrub: tuple[str, ...] = ()
    readiness: Probe
    liveness: Probe
    served: str
    paths: Mapping[str, str]
    keep_alive: KeepAlive
    concurrency: int | None = None
    names: Mapping[str, str] = {}
    dialect: Dialect = Dialect()


CPU_TORCH = (
    "PyTorch keeps its builds for the CPU in a package index of its own: take the --index-url that its install page "
    "gives for pip and CPU, set PIP_EXTRA_INDEX_URL to it, and run this again"
)
"""The remedy where torch's CPU build is not found."""


class Recipe(msgspec.Struct, frozen=True):
    """How `router install` makes an engine's virtual environment, filled from a lock in `launchers/locks/`.

    `lock` holds exact pins of everything, installed with `--no-deps`. `check` is a path in the environment (a glob)
    that exists when all went well. `build` names what has to be compiled (the user is told that it takes minutes).
    `env` is set for the installer; the user's own `CMAKE_ARGS` come after the recipe's. `stubs` are folders in
    `launchers/locks/` installed beside the lock. `missing` is the remedy when the user's package indexes lack a
    pin. `script` is a file in `launchers/` that the environment's interpreter runs last (`python -I SCRIPT`), for what
    pip cannot build.
    """

    lock: str
    check: str
    build: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    stubs: tuple[str, ...] = ()
    missing: str = ""
    script: str = ""


class Launcher(Protocol):
    """One engine. `name` is what `engine:` says; `default_kind` is a model's kind when the file names none.

    `recipes` are keyed by variant: `gpu` and `cpu`, or the forms an engine comes in. The first one is the default.
    """

    name: str
    summary: str
    Options: type[msgspec.Struct]
    kinds: tuple[Kind, ...]
    default_kind: Kind
    recipes: Mapping[str, Recipe]

    def find(self, places: Sequence[Path], options: Any) -> Program | None:
        """The engine's program in the first of `places` that has it, else on PATH, else None.

        A place is a virtual environment's folder, a Python interpreter, or a program of the engine itself.
        """

    def command(self, launch: Launch) -> Command:
        """The command for one replica. Raises `Refusal`."""

"""From what the file says to what the router works with: names looked up, paths absolute, every fault found."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from launchers import LAUNCHERS
from launchers.base import Kind, Launch, Launcher, Program, Refusal, Source
from router.config.convert import ABSENT, convert
from router.config.document import Document
from router.config.document import Path as Where
from router.config.schema import KeyEntry, ModelEntry, RouterFile

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
PUBLIC_NAME = re.compile(r"[\w][\w./:@+-]{0,254}")


class GpuIdentity(Protocol):
    """What the check of `gpus:` needs to know of a GPU."""

    @property
    def index(self) -> int: ...
    @property
    def uuid(self) -> str: ...


class GpuRequest(msgspec.Struct, frozen=True):
    """`inherit`: nothing is set; `none`; `count` of them, placed by the fleet; or these `ids` (indices, UUIDs)."""

    mode: Literal["inherit", "none", "count", "ids"] = "inherit"
    count: int = 0
    ids: tuple[str, ...] = ()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A model's times in seconds, and the length of its queue."""

    queue_timeout: float
    queue_size: int
    connect_timeout: float
    response_timeout: float
    stall_timeout: float


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model whose engines are started here."""

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
    paths: frozenset[str]
    start_timeout: float
    stop_grace: float


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
    key: str | None
    upstream_model: str


class KeySpec(msgspec.Struct, frozen=True):
    """A client's key as its SHA-256."""

    name: str
    digest: bytes


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file, checked."""

    file: Path
    models: tuple[EngineSpec | RemoteSpec, ...]
    host: str
    port: int
    keys: tuple[KeySpec, ...]
    state_dir: Path
    engines_dir: Path
    max_body: int
    body_timeout: float
    drain_timeout: float
    orphan_grace: float
    log_max_size: int
    log_keep: int


class Resolver:
    """One pass over one document. `inventory` is asked for the GPUs only when a model names some."""

    def __init__(self, document: Document, file: Path, inventory: Callable[[], Sequence[GpuIdentity]]) -> None:
        self.document = document
        self.base = file.parent
        self.file = file
        self._inventory = inventory

    def resolve(self) -> Config | None:
        """The configuration, or None with the faults in the document."""
        data = dict(self.document.data)
        entries = data.pop("models", None)
        entry = convert(self.document, {**data, "models": {}}, RouterFile, ())
        if not isinstance(entries, dict) or not entries:
            self.document.fault(("models",), "no model is declared", "add `models:` with at least one name below it")
            entries = {}
        engines_dir = self.path(entry.engines_dir if entry is not ABSENT else RouterFile(models={}).engines_dir)
        models = [self.model(str(name), value, engines_dir) for name, value in entries.items()]
        self.check_names(entries)
        if entry is ABSENT:
            return None
        host, port = self.listen(entry.listen)
        keys = [self.key(key, ("keys", index)) for index, key in enumerate(entry.keys)]
        self.check_keys(entry)
        if host not in LOOPBACK and not keys and entry.auth == "keys":
            self.document.fault(
                ("listen",),
                f"{entry.listen} can be reached from other machines and no `keys` are set",
                "add `keys:`, listen on 127.0.0.1, or say `auth: none`",
            )
        if self.document.faults:
            return None
        return Config(
            file=self.file,
            models=tuple(model for model in models if model is not None),
            host=host,
            port=port,
            keys=tuple(key for key in keys if key is not None),
            state_dir=self.path(entry.state_dir),
            engines_dir=engines_dir,
            max_body=entry.max_body,
            body_timeout=entry.body_timeout,
            drain_timeout=entry.drain_timeout,
            orphan_grace=entry.orphan_grace,
            log_max_size=entry.log.max_size,
            log_keep=entry.log.keep,
        )

    def path(self, text: str) -> Path:
        """Absolute; `~` is the home folder, relative is to the file's folder."""
        return (self.base / Path(text).expanduser()).absolute()

    def model(self, name: str, value: Any, engines_dir: Path) -> EngineSpec | RemoteSpec | None:
        where: Where = ("models", name)
        if not PUBLIC_NAME.fullmatch(name):
            self.document.fault(where, "not a usable name", "use letters, digits and ./:@+_-, at most 255 of them")
        own = value if isinstance(value, dict) else {}
        defaults = self.document.data.get("defaults")
        merged = {**_known_defaults(defaults), **own} if isinstance(value, dict) or value is None else value
        if isinstance(defaults, dict) and isinstance(defaults.get("env"), dict) and isinstance(own.get("env"), dict):
            merged["env"] = {**defaults["env"], **own["env"]}
        entry = convert(self.document, merged, ModelEntry, where)
        if entry is ABSENT:
            return None
        if (entry.engine is None) == (entry.url is None):
            problem = "both `engine` and `url`" if entry.engine else "neither `engine` nor `url`"
            self.document.fault(where, problem, "name the engine to start here, or the address of a server elsewhere")
            return None
        return self.remote(name, entry, where) if entry.url is not None else self.engine(name, entry, own, engines_dir)

    def engine(self, name: str, entry: ModelEntry, own: dict[str, Any], engines_dir: Path) -> EngineSpec | None:
        where: Where = ("models", name)
        for field in ("api_key", "api_key_file", "upstream_model"):
            if getattr(entry, field) is not None:
                self.document.fault((*where, field), "is for models with `url`", "remove it")
        launcher = LAUNCHERS.get(entry.engine or "")
        if launcher is None:
            problem = f"no engine is called {entry.engine!r}"
            self.document.fault((*where, "engine"), problem, f"one of: {', '.join(LAUNCHERS)}")
            return None
        kind = entry.kind or launcher.default_kind
        if kind not in launcher.kinds:
            problem = f"{launcher.name} does not serve {kind}"
            self.document.fault((*where, "kind"), problem, f"one of: {', '.join(launcher.kinds)}")
        options = convert(self.document, own.get("options"), launcher.Options, (*where, "options"))
        source = self.source(entry.model, (*where, "model"))
        gpus = self.gpus(entry.gpus, (*where, "gpus") if "gpus" in own else ("defaults", "gpus"))
        if options is ABSENT:
            return None
        program = self.program(launcher, entry, options, where, engines_dir)
        if source is None or gpus is None or program is None or kind not in launcher.kinds:
            return None
        spec = EngineSpec(
            name=name,
            kind=kind,
            aliases=tuple(entry.aliases),
            limits=_limits(entry),
            engine=launcher.name,
            program=program,
            source=source,
            options=options,
            args=tuple(entry.args),
            env=entry.env,
            replicas=entry.replicas,
            gpus=gpus,
            paths=frozenset(),
            start_timeout=entry.start_timeout,
            stop_grace=entry.stop_grace,
        )
        return self.rehearse(launcher, spec, where)

    def rehearse(self, launcher: Launcher, spec: EngineSpec, where: Where) -> EngineSpec | None:
        """Builds the command as the fleet will, so that what the launcher refuses is known before anything starts."""
        gpus = {"inherit": None, "none": (), "ids": spec.gpus.ids}.get(
            spec.gpus.mode, tuple(map(str, range(spec.gpus.count)))
        )
        try:
            command = launcher.command(launch(spec, port=1, key="", gpus=gpus))
        except Refusal as refusal:
            self.document.fault((*where, *refusal.field.split(".")), refusal.problem, refusal.remedy)
            return None
        return msgspec.structs.replace(spec, paths=frozenset(command.paths))

    def remote(self, name: str, entry: ModelEntry, where: Where) -> RemoteSpec | None:
        fields = ("model", "environment", "gpus", "args", "options", "env")
        own = self.document.data["models"][name]
        for field in fields:
            if field in own:
                self.document.fault((*where, field), "is for engines that are started here", "remove it")
        url = urlsplit(entry.url or "")
        try:
            port = url.port or (443 if url.scheme == "https" else 80)
        except ValueError:
            port = 0
        if url.scheme not in ("http", "https") or not url.hostname or not port or url.query or url.username:
            self.document.fault((*where, "url"), "not a base address", "write it like https://api.example.com/v1")
            return None
        return RemoteSpec(
            name=name,
            kind=entry.kind or "chat",
            aliases=tuple(entry.aliases),
            limits=_limits(entry),
            host=url.hostname,
            port=port,
            tls=url.scheme == "https",
            prefix=url.path.rstrip("/"),
            key=self.remote_key(entry, where),
            upstream_model=entry.upstream_model or name,
        )

    def remote_key(self, entry: ModelEntry, where: Where) -> str | None:
        if entry.api_key_file is None:
            return entry.api_key
        file = self.path(entry.api_key_file)
        if entry.api_key is not None:
            self.document.fault((*where, "api_key_file"), "both `api_key` and `api_key_file`", "keep one of them")
        try:
            key = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            self.document.fault(
                (*where, "api_key_file"), f"cannot read {file}: {_reason(error)}", "give a readable file"
            )
            return None
        if not key or not key.isprintable():
            self.document.fault((*where, "api_key_file"), f"{file} holds no key", "put the key alone in the file")
        return key

    def source(self, text: str | None, where: Where) -> Source | None:
        if text is None:
            return Source("hub", "")  # the launcher says whether it needs one
        if text.startswith("modelscope://"):
            return Source("modelscope", text.removeprefix("modelscope://"))
        path = self.path(text)
        if path.is_dir():
            return Source("folder", str(path))
        if path.is_file():
            return Source("file", str(path))
        if text.startswith((".", "/", "~")) or text.endswith(".gguf") or not HUB_ID.fullmatch(text):
            remedy = "give a folder, a file, a Hugging Face id like org/name, or modelscope://org/name"
            self.document.fault(where, f"no file or folder {path}", remedy)
            return None
        return Source("hub", text)

    def program(
        self, launcher: Launcher, entry: ModelEntry, options: Any, where: Where, engines_dir: Path
    ) -> Program | None:
        places = [self.path(entry.environment)] if entry.environment else list(self.places(launcher, engines_dir))
        if entry.environment and not places[0].exists():
            self.document.fault((*where, "environment"), f"no {places[0]}", "give an existing environment or program")
            return None
        try:
            program = launcher.find(places, options)
        except Refusal as refusal:
            self.document.fault((*where, *refusal.field.split(".")), refusal.problem, refusal.remedy)
            return None
        if program is None:
            looked = ", ".join(map(str, places))
            remedy = f"run `router install {launcher.name}`, or name its environment with `environment:`"
            self.document.fault((*where, "engine"), f"{launcher.name} is not installed (looked in {looked})", remedy)
        return program

    def places(self, launcher: Launcher, engines_dir: Path) -> Collection[Path]:
        """Where an engine is looked for: what `router install` made, then the router's own environment."""
        import sys  # noqa: PLC0415

        made = sorted(engines_dir.glob(f"{launcher.name}*")) if engines_dir.is_dir() else []
        return [*(place for place in made if place.is_dir()), Path(sys.prefix)]

    def gpus(self, value: int | str | list[int | str] | None, where: Where) -> GpuRequest | None:
        if value is None:
            return GpuRequest()
        if value in ("none", 0):
            return GpuRequest("none")
        if value == "auto":
            return GpuRequest("count", 1)
        if isinstance(value, str):
            value = [value]
        if isinstance(value, int):
            return self.gpu_count(value, where)
        if not value:
            self.document.fault(where, "an empty list", "write `none` for no GPU")
            return None
        known = self._inventory()
        good = [self.gpu(item, known, (*where, index)) for index, item in enumerate(value)]
        return GpuRequest("ids", ids=tuple(map(str, value))) if all(good) else None

    def gpu_count(self, count: int, where: Where) -> GpuRequest | None:
        if 0 < count <= len(self._inventory()):
            return GpuRequest("count", count)
        self.document.fault(
            where, f"{count} GPUs asked for, {len(self._inventory())} found", "ask for fewer, or `none`"
        )
        return None

    def gpu(self, item: int | str, known: Sequence[GpuIdentity], where: Where) -> bool:
        if any(str(item) in (str(gpu.index), gpu.uuid) for gpu in known):
            return True
        found = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in known) or "none"
        self.document.fault(
            where, f"GPU {item} does not exist (found: {found})", "name one that exists, `auto` or `none`"
        )
        return False

    def listen(self, text: str) -> tuple[str, int]:
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^:\s]+)):(\d{1,5})", text)
        if match is None or int(match[3]) > 65535:
            self.document.fault(
                ("listen",), f"{text!r} is not an address", "write it like 127.0.0.1:8000 or [::1]:8000"
            )
            return "127.0.0.1", 0
        return match[1] or match[2], int(match[3])

    def key(self, entry: KeyEntry, where: Where) -> KeySpec | None:
        if (entry.hash is None) == (entry.key is None):
            self.document.fault(where, "needs either `hash` or `key`", "give the key's hash, or `key: ${VARIABLE}`")
            return None
        if entry.hash is not None:
            return KeySpec(entry.name, bytes.fromhex(entry.hash.removeprefix("sha256:")))
        return KeySpec(entry.name, hashlib.sha256((entry.key or "").encode()).digest())

    def check_keys(self, entry: RouterFile) -> None:
        names = [key.name for key in entry.keys]
        for index, name in enumerate(names):
            if name in names[:index]:
                self.document.fault(("keys", index, "name"), f"{name!r} stands twice", "give each key its own name")

    def check_names(self, entries: Mapping[str, Any]) -> None:
        """Every alias leads to one model."""
        owners: dict[str, str] = {name: f"models.{name}" for name in entries}
        for name, entry in entries.items():
            aliases = entry.get("aliases") if isinstance(entry, dict) else None
            for index, alias in enumerate(aliases if isinstance(aliases, list) else []):
                where: Where = ("models", name, "aliases", index)
                if alias in owners:
                    self.document.fault(where, f"{alias!r} is taken by {owners[alias]}", "give it another name")
                elif not isinstance(alias, str) or not PUBLIC_NAME.fullmatch(alias):
                    self.document.fault(where, "not a usable name", "use letters, digits and ./:@+_-")
                else:
                    owners[alias] = f"models.{name}.aliases[{index}]"


def launch(spec: EngineSpec, *, port: int, key: str, gpus: tuple[str, ...] | None) -> Launch:
    """What the launcher is told about one replica of `spec`."""
    return Launch(
        name=spec.name,
        kind=spec.kind,
        source=spec.source,
        options=spec.options,
        args=spec.args,
        env=spec.env,
        port=port,
        key=key,
        gpus=gpus,
        program=spec.program,
    )


def _known_defaults(defaults: Any) -> dict[str, Any]:
    return dict(defaults) if isinstance(defaults, dict) else {}


def _limits(entry: ModelEntry) -> Limits:
    return Limits(**{field: getattr(entry, field) for field in Limits.__struct_fields__})


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)

"""From what the file says to what the router works with, part by part, so that every fault is found."""

from pathlib import Path
from typing import Any

from launchers import LAUNCHERS
from launchers.devices import Accelerator
from router.config import engines, folders, gpus, keys, listen, names, remotes
from router.config.convert import convert, parts
from router.config.document import ABSENT, Document
from router.config.entries import read_defaults, read_entry
from router.config.schema import KeyEntry, ModelEntry, RouterFile, Shared
from router.config.scope import Scope
from router.config.specs import Config, EngineSpec, KeySpec, RemoteSpec

_BELOW_A_MODEL = dict.fromkeys(ModelEntry.__struct_fields__, "write it below a model")
EXTENSION = "x-"
"""Keys of the file that begin so are the user's own: a place for anchors."""


def resolve(scope: Scope, file: Path) -> Config | None:
    """The configuration, or None with the faults in the document."""
    document = scope.document
    data = {key: value for key, value in (document.data or {}).items() if not key.startswith(EXTENSION)}
    written, written_keys = data.pop("models", None), data.pop("keys", None)
    defaults = read_defaults(document, data.pop("defaults", None))
    if defaults.get("gpus") is not ABSENT:
        gpus.request(scope, defaults.get("gpus"), ("defaults", "gpus"), _accelerator(defaults))
    given = parts(document, {**data, "models": {}}, RouterFile, (), _BELOW_A_MODEL)
    entry = RouterFile(**{field: part for field, part in given.items() if part is not ABSENT})
    engines_dir = folders.engines(scope, entry.engines_dir)
    state_dir = folders.state(scope, entry.state_dir)
    models = _models(scope, written, defaults, engines_dir)
    key_specs = _keys(document, written_keys, entry.auth)
    address = None if given.get("listen") is ABSENT else listen.address(document, entry.listen)
    if address and given.get("auth") is not ABSENT:
        listen.check_reach(document, entry.listen, address[0], entry.auth, declared=bool(written_keys))
    if document.faults or address is None:
        return None
    return Config(
        file=file,
        models=tuple(model for model in models if model is not None),
        host=address[0],
        port=address[1],
        keys=tuple(key_specs),
        state_dir=state_dir,
        engines_dir=engines_dir,
        max_body=entry.max_body,
        body_timeout=entry.body_timeout,
        send_timeout=entry.send_timeout,
        drain_timeout=entry.drain_timeout,
        orphan_grace=entry.orphan_grace,
        log_format=entry.log.format,
        log_access=entry.log.access,
        log_max_size=entry.log.max_size,
        log_keep=entry.log.keep,
        secrets=_secrets(document),
    )


def _accelerator(defaults: dict[str, Any]) -> Accelerator:
    written: Any = defaults.get("accelerator", ABSENT)
    return Shared().accelerator if written is ABSENT else written


def _secrets(document: Document) -> frozenset[str]:
    """The variables of `keys[].key` and `models.*.api_key`."""
    holders = {("keys", "key"), ("models", "api_key")}
    named = [names for where, names in document.filled.items() if len(where) == 3 and (where[0], where[2]) in holders]
    return frozenset().union(*named)


def _models(
    scope: Scope, written: Any, defaults: dict[str, Any], engines_dir: Path
) -> list[EngineSpec | RemoteSpec | None]:
    if not isinstance(written, dict) or not written:
        if written is not ABSENT:
            problem = "no model is declared" if not written else "expected a mapping of names to models"
            scope.document.fault(("models",), problem, "write `models:` with at least one name below it")
        return []
    names.check(scope.document, written)
    return [_model(scope, name, value, defaults, engines_dir) for name, value in written.items()]


def _model(
    scope: Scope, name: str, written: Any, defaults: dict[str, Any], engines_dir: Path
) -> EngineSpec | RemoteSpec | None:
    own = written if isinstance(written, dict) else {}
    launcher = LAUNCHERS.get(str(own.get("engine")))
    options = launcher.Options.__struct_fields__ if launcher else ()
    entry = read_entry(scope.document, name, written, defaults, dict.fromkeys(options, "write it below `options:`"))
    if entry.bad.intersection(("engine", "url")):
        return None
    if (entry.values.engine is None) == (entry.values.url is None):
        problem = "both `engine` and `url`" if entry.values.engine else "neither `engine` nor `url`"
        remedy = "name the engine to start here, or the address of a server elsewhere"
        scope.document.fault(entry.where, problem, remedy)
        return None
    if entry.values.url is not None:
        return remotes.resolve(scope, entry)
    return engines.resolve(scope, entry, own.get("options"), engines_dir)


def _keys(document: Document, written: Any, auth: str) -> list[KeySpec]:
    if written and auth == "none":
        document.fault(("auth",), "`auth: none` and `keys`", "keep one of them")
    if not isinstance(written, list):
        convert(document, written or [], list[KeyEntry], ("keys",))
        return []
    entries = [convert(document, item, KeyEntry, ("keys", index)) for index, item in enumerate(written)]
    return keys.resolve(document, entries)

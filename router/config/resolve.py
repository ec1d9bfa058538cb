"""From what the file says to what the router works with, part by part, so that every fault is found."""

from pathlib import Path
from typing import Any

from launchers.devices import Accelerator
from router.config import folders, gpus, keys, listen, models
from router.config.convert import convert, parts
from router.config.document import ABSENT, Document
from router.config.entries import read_defaults
from router.config.schema import KeyEntry, ModelEntry, RouterFile, Shared
from router.config.scope import Scope
from router.config.specs import Config, KeySpec

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
    elsewhere = _BELOW_A_MODEL if written else {**_BELOW_A_MODEL, "model": "did you mean `models`?"}
    given = parts(document, {**data, "models": {}}, RouterFile, (), elsewhere)
    entry = RouterFile(**{field: part for field, part in given.items() if part is not ABSENT})
    engines_dir = folders.engines(scope, entry.engines_dir)
    state_dir = folders.state(scope, entry.state_dir)
    specs, groups = models.resolve(scope, written, defaults, engines_dir)
    key_specs = _keys(document, written_keys, entry.auth)
    address = None if given.get("listen") is ABSENT else listen.address(document, entry.listen)
    if address and given.get("auth") is not ABSENT:
        listen.check_reach(document, entry.listen, address[0], entry.auth, declared=bool(written_keys))
    if document.faults or address is None:
        return None
    return Config(
        file=file,
        models=specs,
        groups=groups,
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


def _keys(document: Document, written: Any, auth: str) -> list[KeySpec]:
    if written and auth == "none":
        document.fault(("auth",), "`auth: none` and `keys`", "keep one of them")
    if not isinstance(written, list):
        convert(document, written or [], list[KeyEntry], ("keys",))
        return []
    entries = [convert(document, item, KeyEntry, ("keys", index)) for index, item in enumerate(written)]
    return keys.resolve(document, entries)

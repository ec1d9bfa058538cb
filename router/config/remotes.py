"""A model with `url:`: a server elsewhere."""

import os
import re
from typing import Any
from urllib.parse import urlsplit

import msgspec

from launchers.base import Kind
from router.config import wants
from router.config.entries import Entry
from router.config.faults import Where
from router.config.scope import Scope
from router.config.specs import RemoteSpec
from router.config.values import Secret, Unfit, parse_secret

FOR_ENGINES = (
    "model", "environment", "gpus", "accelerator", "memory", "args", "options", "env", "replicas",
    "start_timeout", "stop_grace", "retire_timeout", "liveness_interval", "liveness_timeout", "liveness_failures",
    "deep_probe", "lora",
)  # fmt: skip
LARGEST_KEY_FILE = 65536
_REMEDY = "write it like https://api.example.com/v1"
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")
_PREFIX = re.compile(r"[!-~]*")
_ENDPOINT = re.compile(r".*/(chat/completions|completions|embeddings|rerank|responses|messages|models)/?")


class Address(msgspec.Struct, frozen=True):
    host: str
    port: int
    tls: bool
    prefix: str


def resolve(scope: Scope, entry: Entry) -> RemoteSpec | None:
    """None with its faults in the document."""
    values = entry.values
    for field in FOR_ENGINES:
        if field in entry.own:
            scope.document.fault((*entry.where, field), "is for engines that are started here", "remove it")
    address = _address(scope, values.url or "", (*entry.where, "url"))
    key = _key(scope, entry)
    kind: Kind = values.kind or "chat"
    wanted = wants.resolve(scope.document, entry, kind)
    if address is None or entry.bad:
        return None
    return RemoteSpec(
        name=entry.name,
        kind=kind,
        aliases=tuple(values.aliases),
        limits=entry.limits(),
        host=address.host,
        port=address.port,
        tls=address.tls,
        prefix=address.prefix,
        key=key,
        upstream_model=values.upstream_model or entry.name,
        edits=entry.edits,
        fallback=tuple(values.fallback),
        wants=wanted,
        info=values.info,
    )


def _address(scope: Scope, text: str, where: Where) -> Address | None:
    """The faults do not repeat the address: it may hold a password."""
    problem, remedy = "not a base address", _REMEDY
    url = _split(text)
    if url is None:
        pass
    elif url.scheme not in ("http", "https"):
        problem = "begins with neither http:// nor https://"
    elif url.username or url.password:
        problem, remedy = "holds a user's name or password", "put the key into `api_key: ${VARIABLE}`"
    elif "?" in text or "#" in text:
        problem, remedy = "has a query (?) or a fragment (#)", "write the address up to and with `/v1`"
    elif _ENDPOINT.fullmatch(url.path):
        problem, remedy = "is an endpoint, not the base of all", "write the address up to and with `/v1`"
    elif url.hostname and _HOST.fullmatch(url.hostname) and url.port != 0:
        tls = url.scheme == "https"
        return Address(url.hostname, url.port or (443 if tls else 80), tls, url.path.rstrip("/"))
    scope.document.fault(where, problem, remedy)
    return None


def _split(text: str) -> Any:
    if not _PREFIX.fullmatch(text):
        return None
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return None
    return url


def _key(scope: Scope, entry: Entry) -> Secret | None:
    values, where = entry.values, (*entry.where, "api_key_file")
    if values.api_key_file is None:
        return values.api_key
    if values.api_key is not None:
        scope.document.fault(where, "both `api_key` and `api_key_file`", "keep one of them")
        return None
    path = scope.path(values.api_key_file)
    shown = scope.document.show(str(path))
    if not os.path.isfile(path):
        scope.document.fault(where, f"no file {shown}", "give a readable file that holds the key alone")
        return None
    try:
        with path.open("rb") as file:
            return parse_secret(file.read(LARGEST_KEY_FILE).decode().strip())
    except OSError as error:
        scope.document.fault(where, f"cannot read {shown}: {error.strerror}", "give a readable file")
    except (UnicodeDecodeError, Unfit):
        scope.document.fault(where, f"{shown} holds no key", "put the key alone in the file, in visible ASCII")
    return None

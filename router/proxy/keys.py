"""Who is asking: bearer tokens against the hashes of the declared keys."""

import hashlib
from collections.abc import Iterable
from typing import Protocol

from router.errors import Unauthenticated
from router.proxy.headers import Fields


class Key(Protocol):
    """A declared key: who holds it, and its SHA-256."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def admin(self) -> bool: ...


class Keys:
    """The declared keys; without any, everybody may ask."""

    def __init__(self, keys: Iterable[Key]) -> None:
        keys = tuple(keys)
        self._holders = {key.digest: key.name for key in keys}
        self._admins = frozenset(key.name for key in keys if key.admin)

    def check(self, fields: Fields) -> str:
        """The name of the key's holder ("" when no keys are declared), or Unauthenticated.

        Looked up by its hash: how long that takes may say something about the hash, but nobody can choose a key by what
        its hash begins with, so nothing about any key.
        """
        if not self._holders:
            return ""
        token = _token(fields)
        if not token:
            raise Unauthenticated("no API key; send `Authorization: Bearer KEY`", code="missing_api_key")
        holder = self._holders.get(hashlib.sha256(token).digest())
        if holder is None:
            raise Unauthenticated("the API key is not known here")
        return holder

    def is_admin(self, holder: str) -> bool:
        """Whether errors tell this holder all there is."""
        return holder in self._admins


IN_PROTOCOL = b"openai-insecure-api-key."
"""How a browser's WebSocket, which can set no header, names its key among its protocols."""


def _token(fields: Fields) -> bytes:
    scheme, _, token = fields.get(b"authorization", b"").partition(b" ")
    if token and scheme.lower() == b"bearer" and (token := token.strip()):
        return token
    return fields.get(b"x-api-key") or fields.get(b"api-key") or _token_in_protocols(fields)


def _token_in_protocols(fields: Fields) -> bytes:
    for protocol in fields.get(b"sec-websocket-protocol", b"").split(b","):
        if (name := protocol.strip()).startswith(IN_PROTOCOL):
            return name[len(IN_PROTOCOL) :]
    return b""

"""Who is asking: bearer tokens against the hashes of the declared keys."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Protocol

from router.errors import Unauthenticated
from router.proxy.headers import Headers


class Key(Protocol):
    """A declared key: who holds it, and its SHA-256."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> bytes: ...


class Keys:
    """The declared keys; without any, everybody may ask."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)

    def check(self, headers: Headers) -> str:
        """The name of the key's holder ("" when no keys are declared), or Unauthenticated.

        Every key is compared, whichever fits, so that the time says nothing about them.
        """
        if not self._keys:
            return ""
        token = _token(headers)
        if not token:
            raise Unauthenticated("no API key; send `Authorization: Bearer KEY`", code="missing_api_key")
        digest = hashlib.sha256(token).digest()
        holder = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                holder = key.name
        if holder is None:
            raise Unauthenticated("the API key is not known here")
        return holder


def _token(headers: Headers) -> bytes:
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer" and token.strip():
                return token.strip()
        elif name in (b"x-api-key", b"api-key") and value:
            return value
    return b""

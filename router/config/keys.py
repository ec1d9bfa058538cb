"""`keys:`, each as the hash that the proxy compares with."""

import hashlib

from router.config.document import ABSENT, Document
from router.config.faults import Where
from router.config.schema import KeyEntry
from router.config.specs import KeySpec
from router.config.values import SHORTEST_KEY


def resolve(document: Document, entries: list[KeyEntry]) -> list[KeySpec]:
    """The keys that are fine; the faults of the others are in the document."""
    found: list[KeySpec] = []
    places: dict[str | bytes, int] = {}
    for index, entry in enumerate(entries):
        if entry is ABSENT:
            continue
        where: Where = ("keys", index)
        digest = _digest(document, entry, where)
        if entry.name in places:
            problem = f"{document.show(entry.name)} is the name of keys[{places[entry.name]}]"
            document.fault((*where, "name"), problem, "give each key its own name")
        if digest in places:
            problem = f"the same key as keys[{places[digest]}]"
            document.fault(where, problem, "give each client a key of its own")
        if digest:
            places.setdefault(digest, index)
            found.append(KeySpec(entry.name, digest, entry.admin))
        places.setdefault(entry.name, index)
    return found


def _digest(document: Document, entry: KeyEntry, where: Where) -> bytes:
    """Empty where there is none."""
    if entry.hash is not None and entry.key is not None:
        document.fault(where, "both `hash` and `key`", "keep one of them")
    elif entry.hash is not None:
        return entry.hash
    elif entry.key is None:
        document.fault(where, "neither `hash` nor `key`", "give the key's hash, or `key: ${VARIABLE}`")
    elif len(entry.key) < SHORTEST_KEY:
        remedy = f"use {SHORTEST_KEY} characters or more, like those of `openssl rand -hex 24`"
        document.fault((*where, "key"), "too short to be safe", remedy)
    else:
        return hashlib.sha256(entry.key.encode()).digest()
    return b""

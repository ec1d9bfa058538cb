"""Public names: usable ones, and each leads to one model."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from router.config.document import ABSENT, Document
from router.config.faults import Where, render

_USABLE = re.compile(r"\w[\w./:@+-]*")
_LONGEST = 200
"""Of a name in the form that a log's file name has: the system takes 255 bytes, with number and ending."""


def check(document: Document, entries: Mapping[str, Any]) -> None:
    owners: dict[str, Where] = {name: ("models", name) for name in entries}
    for name, entry in entries.items():
        _check_usable(document, name, ("models", name))
        aliases = entry.get("aliases") if isinstance(entry, dict) else None
        for index, alias in enumerate(aliases if isinstance(aliases, list) else []):
            where: Where = ("models", name, "aliases", index)
            text = alias if isinstance(alias, str) else document.texts.get(where, "")
            if alias is ABSENT or alias in (None, True, False, "") or isinstance(alias, list | dict):
                continue  # its type is wrong, which has been said
            if text in owners:
                problem = f"{document.show(text)} is taken by {render(owners[text])}"
                document.fault(where, problem, "give it another name, or remove it")
            elif _check_usable(document, text, where):
                owners[text] = where


def _check_usable(document: Document, name: str, where: Where) -> bool:
    problem = "" if _USABLE.fullmatch(name) else "not a usable name"
    if len(quote(name, safe="")) > _LONGEST:
        problem = "too long a name"
    if problem:
        remedy = f"begin with a letter or digit, go on with those and ./:@+_-, {_LONGEST} at most (é counts as %C3%A9)"
        document.fault(where, problem, remedy)
    return not problem

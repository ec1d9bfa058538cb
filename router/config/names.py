"""Public names: usable ones, and each leads to one model."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from router.config.document import ABSENT, Document
from router.config.faults import Where, render

Owners = Mapping[str, Where]
"""Where each public name is declared: `("models", "qwen", "aliases", 0)`. The second part is the model that it leads
to."""

_USABLE = re.compile(r"\w[\w./:@+-]*")
_LONGEST = 200
"""Of a name in the form that a log's file name has: the system takes 255 bytes, with number and ending."""


def check(document: Document, entries: Mapping[str, Any]) -> Owners:
    """Of the models as the file has them; the faults are in the document."""
    owners: dict[str, Where] = {name: ("models", name) for name in entries}
    for name, entry in entries.items():
        _check_usable(document, name, ("models", name))
        for other, where in _others(document, entry if isinstance(entry, dict) else {}, ("models", name)):
            if other in owners:
                problem = f"{document.show(other)} is taken by {render(owners[other])}"
                document.fault(where, problem, "give it another name, or remove it")
            elif _check_usable(document, other, where):
                owners[other] = where
    return owners


def _others(document: Document, entry: Mapping[str, Any], model: Where) -> Iterator[tuple[str, Where]]:
    """The aliases and LoRA adapters, where they are text: whatever else they are is said elsewhere."""
    for field in ("aliases", "lora"):
        names, where = entry.get(field), (*model, field)
        if isinstance(names, dict):
            yield from ((name, (*where, name)) for name in names if name)
        elif isinstance(names, list):
            yield from _listed(document, names, where)


def _listed(document: Document, names: list[Any], where: Where) -> Iterator[tuple[str, Where]]:
    for index, name in enumerate(names):
        here = (*where, index)
        if name is not ABSENT and name not in (None, "") and not isinstance(name, bool | list | dict):
            yield name if isinstance(name, str) else document.texts.get(here, ""), here


def _check_usable(document: Document, name: str, where: Where) -> bool:
    problem = "" if _USABLE.fullmatch(name) else "not a usable name"
    if len(quote(name, safe="")) > _LONGEST:
        problem = "too long a name"
    if problem:
        remedy = f"begin with a letter or digit, go on with those and ./:@+_-, {_LONGEST} at most (é counts as %C3%A9)"
        document.fault(where, problem, remedy)
    return not problem

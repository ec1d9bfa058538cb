"""`info:`, what `/v1/models` says of a model besides."""

import difflib
from collections.abc import Mapping
from typing import Any

from router.config import json_values
from router.config.document import ABSENT, Document
from router.config.faults import Where

_OF_THE_ROUTER = ("id", "object", "root", "kind", "ready", "replica", "created")
_TEXT, _NUMBER, _WORDS = "text", "a whole number", "a list of words"
_REMEDIES = {_TEXT: "text", _NUMBER: "1 or more, like 32768", _WORDS: "one, like [chat, tools]"}
_KNOWN = {
    **dict.fromkeys(("owned_by", "model_type", "model_name", "model_format", "model_family", "quantization"), _TEXT),
    **dict.fromkeys(("context_length", "max_model_len", "max_tokens", "dimensions"), _NUMBER),
    "model_ability": _WORDS,
}
"""What clients read, and stumble over where it is something else, or null."""

ALIKE = 0.85
"""Of 1: how much a name is like one of those to be meant for it. All others are the user's own."""


def check(document: Document, info: Mapping[str, Any], where: Where) -> None:
    """The faults are in the document."""
    json_values.check(document, info, where)
    for name, value in info.items():
        near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=ALIKE) if name not in _OF_THE_ROUTER else []
        if name in _OF_THE_ROUTER:
            document.fault((*where, name), "the router's own", "remove it")
        elif name in _KNOWN and value is not ABSENT and not _fits(value, _KNOWN[name]):
            document.fault((*where, name), f"clients expect {_KNOWN[name]} here", f"write {_REMEDIES[_KNOWN[name]]}")
        elif name not in _KNOWN and near:
            document.fault((*where, name), "not what clients read", f"did you mean `{near[0]}`?")


def _fits(value: Any, wanted: str) -> bool:
    if wanted == _NUMBER:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    if wanted == _TEXT:
        return isinstance(value, str)
    return isinstance(value, list) and all(isinstance(word, str) for word in value)

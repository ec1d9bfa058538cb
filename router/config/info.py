"""`info:`, what `/v1/models` says of a model besides."""

from collections.abc import Mapping
from typing import Any

from router.config import json_values
from router.config.document import ABSENT, Document
from router.config.faults import Where

_OF_THE_ROUTER = ("id", "object", "root", "kind", "ready", "replica", "created")
_TEXT, _NUMBER, _WORDS = "text", "a whole number", "a list of words"
_KNOWN = {
    **dict.fromkeys(("owned_by", "model_type", "model_name", "model_format", "model_family", "quantization"), _TEXT),
    **dict.fromkeys(("context_length", "max_model_len", "max_tokens", "dimensions"), _NUMBER),
    "model_ability": _WORDS,
}
"""What clients read, and stumble over where it is something else, or null."""


def check(document: Document, info: Mapping[str, Any], where: Where) -> None:
    """The faults are in the document."""
    json_values.check(document, info, where)
    for name, value in info.items():
        if name in _OF_THE_ROUTER:
            document.fault((*where, name), "the router's own", "remove it")
        elif name in _KNOWN and value is not ABSENT and not _fits(value, _KNOWN[name]):
            document.fault((*where, name), f"clients expect {_KNOWN[name]} here", f"write {_KNOWN[name]}")


def _fits(value: Any, wanted: str) -> bool:
    if wanted == _NUMBER:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if wanted == _TEXT:
        return isinstance(value, str)
    return isinstance(value, list) and all(isinstance(word, str) for word in value)

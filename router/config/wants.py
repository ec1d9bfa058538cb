"""`normalize_scores`, `decode_openai_tokens`, `max_inputs`: what the router does for some kinds of models."""

from launchers.base import Kind
from router.config.document import Document
from router.config.entries import Entry
from router.config.specs import Wants

_KINDS: dict[str, Kind] = {
    "normalize_scores": "rerank",
    "decode_openai_tokens": "embedding",
    "max_inputs": "embedding",
}


def resolve(document: Document, entry: Entry, kind: Kind) -> Wants:
    """The faults are in the document."""
    wanted = {field: getattr(entry.values, field) for field in _KINDS}
    for field, only in _KINDS.items():
        if wanted[field] and kind != only and "kind" not in entry.bad:
            remedy = f"remove it, or add `kind: {only}` if that is what it is"
            document.fault((*entry.where, field), f"is for {only} models, and this one is {kind}", remedy)
    return Wants(**wanted)

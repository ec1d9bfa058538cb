"""The public name in place of the engine's, in an answer."""

import msgspec

from router.errors import InvalidRequest
from router.proxy.body import find_early, find_late, find_model, has_model, place_model

PARENTS = (b"message", b"response")
"""Where Anthropic's and OpenAI's events keep a `model` that is not at the top."""


def rename(event: bytes, name: str) -> bytes:
    """`event`, a JSON document, with `name` wherever it says `model`."""
    for start, end in reversed(list(find_model(event, PARENTS))):
        event = b"%b%b%b" % (event[:start], quoted(name), event[end:])
    return event


def rename_early(start: bytes, name: str) -> bytes | None:
    """The beginning of a JSON document with `name` as its `model`; None if that has not come yet."""
    span = find_early(start) or (next(find_model(start), None) if b'"model"' in start else None)
    return None if span is None else b"%b%b%b" % (start[: span[0]], quoted(name), start[span[1] :])


def rename_late(end: bytes, name: str) -> bytes | None:
    """The last part of a whole JSON document with `name` as its `model`; None if it is not among its last members."""
    span = find_late(end)
    return None if span is None else b"%b%b%b" % (end[: span[0]], quoted(name), end[span[1] :])


def rename_whole(document: bytes, name: str) -> bytes:
    """A whole JSON document with `name` as its `model`; as it is if it has none, or is no JSON."""
    try:
        if not has_model(document):
            return document
        start, end = place_model(document)
    except (InvalidRequest, msgspec.DecodeError, RecursionError):
        return document
    return b"%b%b%b" % (document[:start], quoted(name), document[end:])


quoted = msgspec.json.encode

"""Which dialect a request needs."""

from collections.abc import Mapping
from typing import Any

from launchers.base import Dialect
from router.proxy.dialects import embeddings, rerank
from router.proxy.dialects.adapter import Adapter, Changed, Wants
from router.proxy.dialects.members import merged, read_body, taken, write

_RERANK = ("/v1/rerank", "/v2/rerank")
_EMBEDDINGS = "/v1/embeddings"


def may_adapt(public: str, dialect: Dialect, wants: Wants) -> bool:  # noqa: ARG001
    """Whether `adapt` could do anything for some body."""
    return (
        public in _RERANK
        or public == _EMBEDDINGS
        or public in dialect.takes
        or public in dialect.defaults
        or not dialect.nulls
    )


def adapt(public: str, body: bytes, dialect: Dialect, wants: Wants) -> Adapter | None:
    """What `body`, a JSON object sent to the canonical path `public`, becomes for an engine; None: it is right as it
    is, and so is the answer. Raises InvalidRequest for what the client has to mend."""
    takes = dialect.takes.get(public)
    if public in _RERANK:
        return rerank.adapt(body, takes, dialect, wants)
    if public == _EMBEDDINGS:
        return embeddings.adapt(body, takes, dialect, wants)
    return _plain(body, takes, dialect.defaults.get(public, {}), nulls=dialect.nulls or b"null" not in body)


def _plain(body: bytes, takes: frozenset[str] | None, defaults: Mapping[str, Any], *, nulls: bool) -> Adapter | None:
    if takes is None and nulls and not defaults:
        return None
    members = read_body(body)
    asked = merged(taken(members, takes, nulls=nulls), defaults, over=False)
    return None if asked == members else Changed((write(asked),))

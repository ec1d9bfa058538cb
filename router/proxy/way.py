"""What is the same for all requests by one path to one target."""

import msgspec

from router.catalog import Model, Target
from router.errors import Unavailable
from router.proxy.dialects import may_adapt
from router.proxy.paths import Path


class Way(msgspec.Struct, frozen=True):
    """`path` is the engine's own, and may hold `{id}`; `lines` follow it: the protocol, and the router's headers.
    `adapts`: requests may have to be changed for this engine. `counts`: its streams tell the tokens if they are asked
    to; `aborts`: it ends an answer that it gives up as if all were well. `start` is the whole of it for a POST."""

    start: bytes
    path: bytes
    lines: bytes
    adapts: bool
    counts: bool
    aborts: bool


def way_to(target: Target, path: Path, model: Model) -> Way:
    """Raises Unavailable where the target does not have the path."""
    prefix, dialect = target.address.prefix, target.dialect
    there = path.on(prefix) if target.paths is None else prefix + _path_at(target, path, model)
    key = b"" if target.key is None else b"authorization: Bearer %b\r\n" % target.key.encode()
    lines = b" HTTP/1.1\r\nhost: %b\r\n%b" % (target.address.authority.encode(), key)
    return Way(
        start=b"POST %b%b" % (there.encode(), lines),
        path=there.encode(),
        lines=lines,
        adapts=may_adapt(path.public, dialect, model.manner.wants),
        counts=path.usage and dialect.counts,
        aborts=path.events and dialect.aborts,
    )


def _path_at(target: Target, path: Path, model: Model) -> str:
    """The engine's own. A model that has been declared anew may for a while be served by replicas as it was."""
    there = None if target.paths is None else target.paths.get(path.public)
    if there is None:
        message = f"model '{model.name}' has changed, and its engine does not serve {path.public} yet"
        raise Unavailable(message, retry_after=10)
    return there

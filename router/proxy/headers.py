"""Which headers go on in each direction."""

from collections.abc import Collection, Mapping, Sequence

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""
Fields = Mapping[bytes, bytes]
"""The same by name, the first of each."""

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
OURS = HOP_BY_HOP | frozenset(
    # The router's own business with the client, and what it sets anew for the engine. Without `accept-encoding` engines
    # answer uncompressed, so that names can be rewritten.
    (b"accept-encoding", b"api-key", b"authorization", b"content-length", b"cookie", b"expect", b"host", b"x-api-key")
)

NAMED = frozenset((b"server-timing", b"x-request-id", b"x-router-model", b"x-router-retries", b"x-router-target"))
"""What the router says of each answer; `named.py` has the rest. An engine's own are dropped."""

_FROM_ENGINE = HOP_BY_HOP | NAMED
_USUAL = (b"keep-alive", b"close")


def by_name(headers: Headers) -> dict[bytes, bytes]:
    """The first of each name."""
    found = dict(headers)
    return found if len(found) == len(headers) else dict(reversed(headers))


def lines(headers: Headers) -> bytes:
    """As they stand in a message."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def for_engine(headers: Headers, fields: Fields) -> bytes:
    """The client's headers as the engine gets them, each line ended; what `connection` names stays behind too."""
    drop = _with_nominated(OURS, headers) if b"connection" in fields else OURS
    return lines([header for header in headers if header[0] not in drop])


def for_client(headers: Headers, fields: Fields) -> list[tuple[bytes, bytes]]:
    """The engine's headers as the client gets them."""
    drop = _with_nominated(_FROM_ENGINE, headers) if b"connection" in fields else _FROM_ENGINE
    return [header for header in headers if header[0] not in drop]


def _with_nominated(names: frozenset[bytes], headers: Headers) -> Collection[bytes]:
    """`names`, and what `connection` headers say is for the next hop only."""
    nominated: set[bytes] = set()
    for name, value in headers:
        if name == b"connection" and (options := value.lower()) not in _USUAL:
            nominated.update(option.strip() for option in options.split(b","))
    return names | nominated if nominated else names

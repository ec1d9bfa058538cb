"""Which headers go on in each direction."""

from collections.abc import Iterable

Headers = Iterable[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
OURS = HOP_BY_HOP | frozenset(
    # The router's own business with the client, and what it sets anew for the engine. Without `accept-encoding` engines
    # answer uncompressed, so that names can be rewritten.
    (b"accept-encoding", b"api-key", b"authorization", b"content-length", b"cookie", b"expect", b"host", b"x-api-key")
)


def find(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first header called `name` (lower case)."""
    for key, value in headers:
        if key == name:
            return value
    return None


def for_engine(headers: Headers) -> bytes:
    """The client's headers as the engine gets them, each line ended; names in `connection` stay behind too."""
    headers = list(headers)
    drop = OURS
    if (named := find(headers, b"connection")) and named.lower() not in (b"keep-alive", b"close"):
        drop = OURS | {name.strip().lower() for name in named.split(b",")}
    return b"".join(b"%b: %b\r\n" % (name, value) for name, value in headers if name not in drop)


def for_client(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The engine's headers as the client gets them."""
    return [header for header in headers if header[0] not in HOP_BY_HOP]

"""What the router tells the client of an answer: which request it was, who answered, and where its time went."""

import re
from urllib.parse import quote

from router.proxy.headers import Fields

MAX_ID = 128
"""Characters of a client's own `x-request-id`; a longer one is not taken."""

_ID = re.compile(rb"[!-~]{1,%d}" % MAX_ID)


def own_id(fields: Fields) -> bytes | None:
    """The client's `x-request-id`, if it is one that can be told again: visible ASCII, and not too long."""
    found = fields.get(b"x-request-id")
    return found if found and _ID.fullmatch(found) else None


def id_line(id: bytes) -> bytes:  # noqa: A002
    """b"" where the request has no id, as nobody could read its head."""
    return b"x-request-id: %b\r\n" % id if id else b""


def signature(model: str, target: str) -> bytes:
    """The lines of who answered; "" for what is not known. What no header can hold is percent-encoded."""
    pairs = ((b"x-router-model", model), (b"x-router-target", target))
    return b"".join([b"%b: %b\r\n" % (name, quote(value, "/:@+#").encode()) for name, value in pairs if value])


def retries(count: int) -> bytes:
    """How many replicas failed before; nothing where none did."""
    return b"x-router-retries: %d\r\n" % count if count else b""


def timed(
    fields: bytes,
    id: bytes,  # noqa: A002
    signature: bytes,
    start: float,
    queue: float,
    engine: float,
    own: float,
) -> bytes:
    """`fields`, lines of the engine's, with the router's. In seconds, up to the first byte of the answer: the wait for
    an engine's start, where there was one, for a free replica, the engine's time, and the router's. All in one, as each
    answer has it."""
    return b"%bx-request-id: %b\r\n%bserver-timing: %bqueue;dur=%.1f, engine;dur=%.1f, router;dur=%.2f\r\n" % (
        fields,
        id,
        signature,
        b"start;dur=%.1f, " % (start * 1e3) if start else b"",
        queue * 1e3,
        engine * 1e3,
        own * 1e3,
    )

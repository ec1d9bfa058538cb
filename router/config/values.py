"""Values that YAML does not have: durations, sizes, and secrets that are never printed."""

import re
from collections.abc import Callable
from typing import Any

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
LONGEST = 365 * SECONDS["d"]
LARGEST = 2**53
"""Beyond it a size is no longer exact in JSON."""
SHORTEST_KEY = 8

_A_SPAN = "write a number and a unit, like 500ms, 30s, 10m or 1h30m"
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]i?B|B)")
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Unfit(Exception):
    """A value cannot be what it should be. `problem` completes "this value is", and never holds the value."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy


class Duration(float):
    """Seconds, written `500ms`, `30s`, `10m`, `1h30m`; a bare 0 is one too."""


class Timeout(Duration):
    """A duration that cannot be zero."""


class Size(int):
    """Bytes, written `512KiB`, `64MiB`, `18GiB`, `500MB`; never zero."""


class Secret(str):
    """Text that `repr` does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(…)"


class Digest(bytes):
    """The SHA-256 of a client's key, written `sha256:` and 64 hex digits. `repr` does not show it."""

    def __repr__(self) -> str:
        return "Digest(…)"


def parse_duration(value: object) -> Duration:
    """Raises Unfit."""
    return _span(value, f"{_A_SPAN}, or 0 for none")


def parse_timeout(value: object) -> Timeout:
    """Raises Unfit."""
    seconds = _span(value, _A_SPAN)
    if not seconds:
        raise Unfit("no time at all", "write a duration above zero, like 500ms, 30s, 10m or 1h30m")
    return Timeout(seconds)


def _span(value: object, remedy: str) -> Duration:
    if value == 0 and not isinstance(value, bool | str):
        return Duration(0)
    parts = _DURATION.findall(value) if isinstance(value, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise Unfit("not a duration", remedy)
    seconds = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if seconds > LONGEST:
        raise Unfit("too long", f"write at most {show_duration(LONGEST)}")
    return Duration(seconds)


def parse_size(value: object) -> Size:
    """Raises Unfit."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Unfit("not a size", "write a number and a unit, like 512KiB, 64MiB or 18GiB")
    size = float(match[1]) * BYTES[match[2]]
    if not 1 <= size <= LARGEST:
        raise Unfit("zero" if size < 1 else "too large", "write a size from 1B to 8192TiB")
    return Size(size)


def parse_secret(value: object) -> Secret:
    """Raises Unfit."""
    if not isinstance(value, str) or not value:
        raise Unfit("not a key", "write it as text, better as ${VARIABLE} from the environment")
    if not _VISIBLE.fullmatch(value):
        raise Unfit("not a key", "use visible ASCII characters alone, without blanks: it travels in an HTTP header")
    return Secret(value)


def parse_digest(value: object) -> Digest:
    """Raises Unfit."""
    match = _DIGEST.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Unfit("not a hash", 'write `sha256:` and the 64 digits of `printf %s "$KEY" | sha256sum`')
    if match[1].lower() == _OF_NOTHING:
        raise Unfit("the hash of nothing", 'set $KEY first, then `printf %s "$KEY" | sha256sum`')
    return Digest.fromhex(match[1])


PARSERS: dict[Any, Callable[[object], Any]] = {
    Duration: parse_duration,
    Timeout: parse_timeout,
    Size: parse_size,
    Secret: parse_secret,
    Digest: parse_digest,
}
HIDDEN = frozenset({Secret, Digest})
"""The types whose values no fault may show."""


def decode(kind: type, value: object) -> Any:
    """msgspec's `dec_hook`: for values that were parsed already."""
    if isinstance(value, kind):
        return value
    raise NotImplementedError(kind)


def show_duration(seconds: float) -> str:
    """As a person writes it: `10m`, `1h30m`, `500ms`."""
    if seconds != int(seconds):
        return f"{round(seconds * 1000)}ms"
    left, text = int(seconds), ""
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, int(SECONDS[unit]))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def show_size(size: int) -> str:
    """As a person writes it: `64MiB`."""
    unit = next(unit for unit in ("TiB", "GiB", "MiB", "KiB", "B") if size % BYTES[unit] == 0)
    return f"{size // BYTES[unit]}{unit}"

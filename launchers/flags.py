"""Options to argv. An option that is unset (None) gives no flag, so that the engine's own default rules."""

from collections.abc import Iterable

Scalar = str | int | float


def value(flag: str, given: Scalar | None) -> list[str]:
    """`--flag 8`, or nothing."""
    return [] if given is None else [flag, str(given)]


def switch(flag: str, given: bool | None) -> list[str]:
    """`--flag`, `--no-flag`, or nothing."""
    if given is None:
        return []
    return [flag] if given else [flag.replace("--", "--no-", 1)]


def joined(flag: str, given: Iterable[Scalar] | None) -> list[str]:
    """`--flag 3,1`, or nothing."""
    return [flag, ",".join(map(str, given))] if given else []

"""One thing that was looked at."""

import enum
from collections.abc import Iterable, Iterator

import msgspec


class Verdict(enum.StrEnum):
    """A warning is something that may go well; a fault is not."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Check(msgspec.Struct, frozen=True):
    """`what` was found, and what to do about it; `detail` are lines to read below it."""

    verdict: Verdict
    what: str
    remedy: str = ""
    detail: tuple[str, ...] = ()

    def render(self) -> str:
        line = f"{self.verdict:<8} {self.what}"
        return "\n".join(
            [f"{line}; {self.remedy}" if self.remedy else line, *(f"         {each}" for each in self.detail)]
        )


def ok(what: str) -> Check:
    return Check(Verdict.OK, what)


def warning(what: str, remedy: str) -> Check:
    return Check(Verdict.WARNING, what, remedy)


def fault(what: str, remedy: str) -> Check:
    return Check(Verdict.FAULT, what, remedy)


def size(count: int) -> str:
    """Bytes for people: `512 MiB`, `1.5 GiB`."""
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"


def once(checks: Iterable[Check]) -> Iterator[Check]:
    """Each the first time: several models share an engine."""
    seen: set[Check] = set()
    for check in checks:
        if check not in seen:
            seen.add(check)
            yield check

"""What may fail, and when: a fault opens a window, and nothing else excuses a failure."""

import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from chaos.load import Outcome

BEGUN = frozenset({"event", "torn"})
"""What a fault of one engine may do to the answers that it had begun. An answer that had not begun is another
replica's to give."""
DOWN = frozenset({"refused", "silent", "torn", "event"})
"""What a client sees of a router that was killed."""


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault has done. `what` is for the history. `model`: whose begun answers may fail, as one of its replicas
    was hit. `down`: the router itself was. `moved`: kept connections may have ended, after an answer. `gone`: pids of
    engines that have to be replaced; those of `kept` have to be there afterwards. `since`: when the harm was done, or
    undone if it was something that stood still."""

    what: str
    model: str = ""
    down: bool = False
    moved: bool = False
    gone: frozenset[int] = frozenset()
    kept: frozenset[int] = frozenset()
    since: float = msgspec.field(default_factory=time.monotonic)


class Window(msgspec.Struct, frozen=True):
    """From before a fault to when all was ready again."""

    kind: str
    start: float
    end: float
    damage: Damage

    def covers(self, outcome: Outcome) -> bool:
        return outcome.sent <= self.end and outcome.ended >= self.start

    def excuses(self, outcome: Outcome) -> bool:
        if not self.covers(outcome):
            return False
        if outcome.failure is None:
            return self.damage.down or self.damage.moved
        if self.damage.down and outcome.failure in DOWN:
            return True
        return outcome.failure in BEGUN and outcome.question.model == self.damage.model


class Oracle:
    """Judges outcomes once the windows that they may fall into have ended."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.requests = self.streams = self.again = 0
        self.allowed: Counter[str] = Counter()
        self.violations: list[tuple[str, Outcome]] = []

    def judge(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            self.requests += 1
            self.streams += outcome.question.streams
            self.again += outcome.again
            if outcome.failure is None and not outcome.again:
                continue
            if any(window.excuses(outcome) for window in reversed(self.windows)):
                self.allowed[outcome.failure or "again"] += outcome.failure is not None
            else:
                self.violations.append((outcome.failure or "a kept connection dropped a request", outcome))

    @property
    def wrong(self) -> int:
        return sum(failure == "wrong" for failure, _ in self.violations)

    @property
    def lost(self) -> int:
        """Requests that had not begun, and were not answered though a replica lived."""
        return sum(not outcome.begun and failure != "wrong" for failure, outcome in self.violations)

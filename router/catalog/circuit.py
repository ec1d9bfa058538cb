"""A target that fails every request gets none for a while, and then one to try.

closed      FAILURES in a row                            → open
open        its time is over                             → half_open
half_open   a failure                                    → open, for twice as long
any         an answer, unless the fleet holds it open    → closed
any         the fleet's liveness probe failed: `hold`    → open, without a time
any         the fleet's probe answered: `close`          → closed
"""

import asyncio
import random
from collections.abc import Callable
from enum import StrEnum

FAILURES = 5
"""Requests in a row that failed, until a target gets no more."""
FIRST = 1.0
"""Seconds without requests; twice as many each time that the next trial fails too."""
LONGEST = 30.0
"""Seconds without requests at most, whatever an engine's `Retry-After` asks for."""


class Circuit(StrEnum):
    """Whether a target gets requests: all that are due to it, none, one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """The circuit of one target. Its model calls what changes it; attributes may be read by anyone.

    `doubted`: something failed since the last answer. `failures` since then, or since the fleet closed it; `row`: the
    openings since the last answer, whoever closed it in between; `openings`: of all time. `retry_at`, by the loop's
    clock: when it is tried again, infinite where that is not known. `trial`: the number of the opening that one request
    may now try to end, 0 unless it is half-open. `held`: open by the fleet's word.
    """

    __slots__ = ("_timer", "circuit", "doubted", "failures", "held", "openings", "retry_at", "row", "trial")

    def __init__(self) -> None:
        self.circuit = Circuit.CLOSED
        self.failures = self.openings = self.row = self.trial = 0
        self.doubted = self.held = False
        self.retry_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None

    def fail(self) -> bool:
        """One more request failed. Whether the circuit has to open; what was asked before it did counts no more."""
        if self.circuit is Circuit.OPEN:
            return False
        self.doubted = True
        self.failures += 1
        return self.circuit is Circuit.HALF_OPEN or self.failures >= FAILURES

    def open(self, at_least: float, then: Callable[[], None]) -> None:
        """No request from here on. `then` is called when its time is over, of `at_least` so many seconds."""
        backoff = min(LONGEST, FIRST * 2 ** min(self.row, 16))
        jittered = backoff * random.uniform(0.75, 1)  # noqa: S311 - not a secret
        self._enter(Circuit.OPEN)
        self.row += 1
        self.openings += 1
        loop = asyncio.get_running_loop()
        self.retry_at = loop.time() + max(jittered, min(at_least, LONGEST))
        self._timer = loop.call_at(self.retry_at, then)

    def hold(self) -> None:
        """No request until `close`."""
        self._enter(Circuit.OPEN)
        self.openings += 1
        self.doubted = self.held = True

    def half_open(self) -> None:
        """One request may try."""
        self._enter(Circuit.HALF_OPEN)
        self.trial = self.openings

    def answered(self) -> None:
        """All requests again, and nothing is held against it."""
        self.close()
        self.row = 0
        self.doubted = False

    def close(self) -> None:
        """All requests again. No timer is left."""
        self._enter(Circuit.CLOSED)
        self.failures = 0

    def _enter(self, circuit: Circuit) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.circuit, self.trial, self.held, self.retry_at = circuit, 0, False, float("inf")

"""How many requests may be sent again: a share of all, so that an engine that fails is not asked ever more for it."""

import time

RESERVE = 3.0
"""Retries a second that are allowed whatever the share."""
MOST = 1000.0
"""Retries that can be saved up: the requests of an engine that is killed under load all go elsewhere at once."""


class Budget:
    """Of one model. Who asks it counts `requests` up by one; that is all a request costs."""

    __slots__ = ("_at", "_counted", "_left", "requests")

    def __init__(self) -> None:
        self.requests = self._counted = 0
        self._left = MOST
        self._at = time.monotonic()

    def take(self, share: float) -> bool:
        """Whether one more may be sent again, where so many of all may be."""
        now = time.monotonic()
        earned = share * (self.requests - self._counted) + RESERVE * (now - self._at)
        self._left = min(MOST, self._left + earned)
        self._at, self._counted = now, self.requests
        if share <= 0 or self._left < 1:
            return False
        self._left -= 1
        return True

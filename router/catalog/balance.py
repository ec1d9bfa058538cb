"""Which of the ready targets is the least busy."""

from collections.abc import Collection, Iterator

from router.catalog.target import Target


class Balance:
    """Ready targets by their requests in flight: the least busy one costs the same to find among one as among many,
    unless it is to be avoided or at its limit.

    `_levels[n]` holds those with n in flight, the one that has been there longest first, so that the replicas of an
    idle model take turns. No level below `_floor` holds any.
    """

    def __init__(self) -> None:
        self._levels: list[dict[Target, None]] = [{}]
        self._floor = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, target: Target) -> bool:
        return target.in_flight < len(self._levels) and target in self._levels[target.in_flight]

    def __iter__(self) -> Iterator[Target]:
        for level in self._levels:
            yield from level

    def add(self, target: Target) -> None:
        level = self._level(target.in_flight)
        if target not in level:
            level[target] = None
            self._size += 1
            self._floor = min(self._floor, target.in_flight)

    def remove(self, target: Target) -> None:
        level = self._levels[target.in_flight] if target.in_flight < len(self._levels) else {}
        if target in level:
            del level[target]
            self._size -= 1

    def claim(self, avoid: Collection[Target]) -> Target | None:
        """The one with the fewest in flight, within its limit and none of `avoid`, with one more."""
        levels = self._levels
        while self._floor < len(levels) - 1 and not levels[self._floor]:
            self._floor += 1
        for number in range(self._floor, len(levels)):
            level = levels[number]
            for target in level:
                if target not in avoid and (target.limit is None or target.in_flight < target.limit):
                    self.take(target)
                    return target
        return None

    def take(self, target: Target) -> None:
        """One more at this one, which is here."""
        del self._levels[target.in_flight][target]
        target.in_flight += 1
        self._level(target.in_flight)[target] = None

    def release(self, target: Target) -> None:
        """One less in flight; also of a target that is here no more."""
        level = self._level(target.in_flight)
        target.in_flight -= 1
        if target in level:
            del level[target]
            self._levels[target.in_flight][target] = None
            self._floor = min(self._floor, target.in_flight)

    def _level(self, in_flight: int) -> dict[Target, None]:
        while len(self._levels) <= in_flight:
            self._levels.append({})
        return self._levels[in_flight]

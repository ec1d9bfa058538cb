"""How often requests may be sent again."""

import pytest

from router.catalog import budget
from router.catalog.budget import Budget


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is."""
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    return now


def used_up(share: float) -> Budget:
    empty = Budget()
    while empty.take(share):
        pass
    return empty


def taken(of: Budget, share: float) -> int:
    count = 0
    while of.take(share):
        count += 1
    return count


def test_at_first_a_whole_engines_requests_may_go_elsewhere() -> None:
    assert taken(Budget(), 0.2) == budget.MOST


@pytest.mark.parametrize(
    ("share", "requests", "retries"), [(0.2, 100, 20), (1.0, 7, 7), (0.01, 99, 0), (0.5, 10**9, 1000)]
)
def test_afterwards_a_share_of_the_requests_may(share: float, requests: int, retries: int) -> None:
    empty = used_up(share)
    empty.requests += requests
    assert taken(empty, share) == retries


def test_some_a_second_may_in_any_case(clock: list[float]) -> None:
    empty = used_up(0.2)
    clock[0] += 10
    assert taken(empty, 0.2) == 10 * budget.RESERVE


def test_a_share_of_none_is_none(clock: list[float]) -> None:
    assert not Budget().take(0.0)
    clock[0] += 1000
    assert not Budget().take(0.0)

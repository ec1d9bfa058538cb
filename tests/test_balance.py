"""Which replica gets the next request: the least busy one, in turns, within its limit; and no claim is lost."""

import random
from collections.abc import Collection
from dataclasses import dataclass

import pytest

from router.catalog import Address, Balance, Model, Target

pytestmark = pytest.mark.anyio


@dataclass
class Limits:
    queue_timeout: float = 5.0
    queue_size: int = 16
    connect_timeout: float = 1.0
    response_timeout: float = 1.0
    stall_timeout: float = 1.0


class Pool:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def target(name: str, limit: int | None = None) -> Target:
    return Target(name, Address("127.0.0.1", 1), served="m", limit=limit)


def balance(*targets: Target) -> Balance:
    made = Balance()
    for each in targets:
        made.add(each)
    return made


def names(made: Balance) -> list[str]:
    return [each.id for each in made]


def claimed(made: Balance, *avoid: Target) -> str | None:
    found = made.claim(avoid)
    return None if found is None else found.id


def test_nothing_has_nothing_to_give() -> None:
    made = balance()
    assert (made.claim(()), len(made), list(made)) == (None, 0, [])


def test_idle_ones_take_turns() -> None:
    a, b, c = map(target, "abc")
    made = balance(a, b, c)
    order = []
    for _ in range(7):
        found = made.claim(())
        assert found is not None
        order.append(found.id)
        made.release(found)
    assert order == list("abcabca")


def test_the_least_busy_one_is_next_and_is_first_of_the_list() -> None:
    a, b, c = map(target, "abc")
    made = balance(a, b, c)
    assert [claimed(made) for _ in range(7)] == list("abcabca")
    made.release(b)
    assert names(made)[0] == "b"
    made.release(c)
    made.release(c)
    assert [claimed(made) for _ in range(4)] == ["c", "b", "c", "b"]


def test_none_gets_more_than_its_limit() -> None:
    a, b, c = target("a", 1), target("b", 2), target("c", 0)
    made = balance(a, b, c)
    assert [claimed(made) for _ in range(4)] == ["a", "b", "b", None]
    made.release(a)
    assert [claimed(made) for _ in range(2)] == ["a", None]


def test_what_is_avoided_is_not_given() -> None:
    a, b = map(target, "ab")
    made = balance(a, b)
    assert claimed(made, a, b) is None
    assert [claimed(made, a) for _ in range(3)] == ["b"] * 3
    assert claimed(made, b) == "a"
    assert claimed(made) == "a"


def test_adding_twice_is_adding_once() -> None:
    a = target("a", 1)
    made = balance(a, a)
    assert (len(made), claimed(made), claimed(made)) == (1, "a", None)
    made.add(a)
    assert (len(made), claimed(made), names(made)) == (1, None, ["a"])


def test_removing_what_is_not_there_does_nothing() -> None:
    a, b = map(target, "ab")
    made = balance(a)
    made.remove(b)
    made.remove(a)
    made.remove(a)
    assert (len(made), list(made), claimed(made)) == (0, [], None)
    b.in_flight = 9
    made.remove(b)


def test_one_removed_while_claimed_counts_down_and_gets_nothing_more() -> None:
    a, b = map(target, "ab")
    made = balance(a, b)
    assert [claimed(made) for _ in range(4)] == ["a", "b", "a", "b"]
    made.remove(a)
    assert [claimed(made) for _ in range(2)] == ["b", "b"]
    made.release(a)
    made.release(a)
    assert (a.in_flight, names(made), len(made)) == (0, ["b"], 1)
    made.add(a)
    assert (claimed(made), names(made)) == ("a", ["a", "b"])


def test_one_that_comes_back_busy_is_placed_by_what_it_has() -> None:
    a, b = map(target, "ab")
    made = balance(a, b)
    for _ in range(4):
        made.claim((b,))
    made.remove(a)
    made.add(a)
    assert [claimed(made) for _ in range(5)] == ["b", "b", "b", "b", "a"]


class Naive:
    """The same by looking at all of them each time. `since` says who has been at its level for longest."""

    def __init__(self) -> None:
        self.since: dict[Target, int] = {}
        self.clock = 0

    def touch(self, each: Target) -> None:
        self.clock += 1
        self.since[each] = self.clock

    def least(self, avoid: Collection[Target]) -> Target | None:
        free = [
            each for each in self.since if each not in avoid and (each.limit is None or each.in_flight < each.limit)
        ]
        return min(free, key=lambda each: (each.in_flight, self.since[each]), default=None)


@pytest.mark.parametrize("seed", range(40))
def test_it_does_what_looking_at_all_would_do(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    targets = [target(str(number), rng.choice((None, None, 1, 2, 5, 0))) for number in range(rng.randrange(1, 9))]
    made, naive, held = Balance(), Naive(), list[Target]()
    for _ in range(600):
        each, step = rng.choice(targets), rng.random()
        if step < 0.05:
            made.add(each)
            if each not in naive.since:
                naive.touch(each)
        elif step < 0.08:
            made.remove(each)
            naive.since.pop(each, None)
        elif step < 0.55:
            avoid = rng.sample(targets, rng.choice((0, 0, 0, 1, len(targets) // 2)))
            expected = naive.least(avoid)
            found = made.claim(avoid)
            assert found is expected
            if found is not None:
                naive.touch(found)
                held.append(found)
        elif held:
            each = held.pop(rng.randrange(len(held)))
            made.release(each)
            if each in naive.since:
                naive.touch(each)
        assert set(made) == set(naive.since)
        assert len(made) == len(list(made)) == len(naive.since)
        assert list(made) == sorted(naive.since, key=lambda one: (one.in_flight, naive.since[one]))
        for one in targets:
            assert one.in_flight == held.count(one)


def test_the_connections_of_a_removed_target_end_with_its_last_request() -> None:
    model = Model("m", kind="chat", engine="test", limits=Limits())
    busy, idle = target("busy"), target("idle")
    pools = [Pool(), Pool()]
    busy.pool, idle.pool = pools
    model.add(busy)
    assert model.claim_now() is busy
    assert model.claim_now() is busy
    model.add(idle)
    model.remove(idle)
    model.remove(busy)
    assert ([pool.closed for pool in pools], idle.pool) == ([0, 1], None)
    assert (model.claim_now(), model.ready, model.has_other(())) == (None, False, False)
    model.release(busy)
    assert pools[0].closed == 0
    model.release(busy)
    assert (pools[0].closed, busy.pool, busy.in_flight) == (1, None, 0)


def test_finding_one_among_many_costs_what_finding_one_among_few_does() -> None:
    """By what is looked at, not by time: the first of the lowest level."""
    looked = 0

    class Counted(Target):
        @property
        def limit(self) -> int | None:
            nonlocal looked
            looked += 1
            return None

        @limit.setter
        def limit(self, value: int | None) -> None: ...

    made = balance(*(Counted(str(number), Address("h", 1), served="m") for number in range(500)))
    for _ in range(2_000):
        assert made.claim(()) is not None
    assert looked == 2_000

"""When a target that fails gets no more requests, who tries it again, and what those that wait are told."""

import asyncio
import random
from dataclasses import dataclass

import pytest

from router.catalog import Address, Catalog, Circuit, Model, Target, circuit
from router.catalog.circuit import FAILURES, LONGEST, Breaker
from router.errors import ModelNotFound, Unavailable

pytestmark = pytest.mark.anyio


@dataclass
class Limits:
    queue_timeout: float = 5.0
    queue_size: int = 100
    connect_timeout: float = 1.0
    response_timeout: float = 1.0
    stall_timeout: float = 1.0


def model_of(*targets: Target, limits: Limits | None = None, name: str = "m") -> Model:
    made = Model(name, kind="chat", engine="test", limits=limits or Limits())
    for each in targets:
        made.add(each)
    return made


def target(name: str = "a", limit: int | None = None) -> Target:
    return Target(name, Address("127.0.0.1", 1), served="m", limit=limit)


def fail(model: Model, each: Target, times: int = FAILURES) -> None:
    for _ in range(times):
        model.failed(each)


async def reached(each: Target, state: str) -> None:
    async with asyncio.timeout(10):
        while each.circuit != state:  # noqa: ASYNC110 - nobody makes an event of it
            await asyncio.sleep(0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is what comes after the wait."""
    monkeypatch.setattr(circuit, "FIRST", 0.01)


async def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    a = target()
    model = model_of(a)
    fail(model, a, 4)
    assert (a.circuit, model.ready) == ("closed", True)
    model.failed(a)
    assert (a.circuit, model.ready, model.claim_now()) == ("open", False, None)
    assert (model.targets, model.failures, model.openings) == ([a], 5, 1)
    model.remove(a)


async def test_an_answer_in_between_begins_the_count_anew() -> None:
    a = target()
    model = model_of(a)
    for _ in range(10):
        fail(model, a, 4)
        model.succeeded(a)
    assert (a.circuit, a.breaker.failures, a.breaker.doubted, model.failures) == ("closed", 0, False, 40)


async def test_what_was_asked_before_it_opened_makes_it_no_worse() -> None:
    a = target()
    model = model_of(a)
    fail(model, a, 50)
    assert (a.breaker.openings, a.breaker.row, model.openings, model.failures) == (1, 1, 1, 50)
    model.remove(a)


async def test_requests_at_one_that_is_open_still_count_and_an_answer_to_them_closes_it() -> None:
    a = target()
    model = model_of(a)
    assert model.claim_now() is a
    fail(model, a)
    assert model.in_flight == 1
    model.succeeded(a)
    assert (a.circuit, model.claim_now()) == ("closed", a)
    assert a.in_flight == 2


async def test_each_time_it_is_twice_as_long_and_never_longer_than_thirty_seconds() -> None:
    breaker, loop = Breaker(), asyncio.get_running_loop()
    for expected in (1, 2, 4, 8, 16, 30, 30, 30):
        breaker.open(0.0, lambda: None)
        wait = breaker.retry_at - loop.time()
        assert 0.7 * expected < wait <= expected
    breaker.answered()
    breaker.open(0.0, lambda: None)
    assert breaker.retry_at - loop.time() <= 1
    breaker.close()


@pytest.mark.parametrize(("asked", "least", "most"), [(7.0, 6.9, 7.0), (0.0, 0.7, 1.0), (3600.0, 29.9, LONGEST)])
async def test_the_engines_own_wish_is_honoured_within_bounds(asked: float, least: float, most: float) -> None:
    a = target()
    model = model_of(a)
    for _ in range(FAILURES):
        model.failed(a, asked)
    assert least < a.breaker.retry_at - asyncio.get_running_loop().time() <= most
    model.remove(a)


async def test_waits_differ_so_that_replicas_are_not_tried_in_step() -> None:
    breakers = [Breaker() for _ in range(20)]
    for breaker in breakers:
        breaker.open(0.0, lambda: None)
    assert len({round(breaker.retry_at, 4) for breaker in breakers}) > 10
    for breaker in breakers:
        breaker.close()


@pytest.mark.usefixtures("quick")
async def test_half_open_it_is_given_to_one_at_a_time() -> None:
    a = target()
    model = model_of(a)
    fail(model, a)
    await reached(a, "half_open")
    assert model.claim_now() is a
    trial = a.breaker.trial
    assert (model.claim_now(), model.ready, trial) == (None, False, 1)
    model.release(a, trial)  # its client left, which shows nothing
    assert (model.claim_now(), model.claim_now(), a.circuit) == (a, None, "half_open")
    model.succeeded(a)
    assert (a.circuit, a.breaker.trial, model.claim_now()) == ("closed", 0, a)
    model.release(a, trial)
    assert model.claim_now() is a


@pytest.mark.usefixtures("quick")
async def test_a_trial_that_fails_opens_it_for_longer() -> None:
    a = target()
    model = model_of(a)
    fail(model, a)
    for row in (1, 2, 3):
        await reached(a, "half_open")
        assert (model.claim_now(), a.breaker.row) == (a, row)
        trial = a.breaker.trial
        model.failed(a)
        model.release(a, trial)
        assert (a.circuit, a.in_flight, model.claim_now()) == ("open", 0, None)
    model.remove(a)


@pytest.mark.usefixtures("quick")
async def test_the_end_of_an_earlier_trial_makes_room_for_no_second_one() -> None:
    a = target()
    model = model_of(a)
    fail(model, a)
    await reached(a, "half_open")
    assert model.claim_now() is a
    first = a.breaker.trial
    model.close_circuit(a)
    fail(model, a)
    await reached(a, "half_open")
    assert model.claim_now() is a
    model.release(a, first)
    assert model.claim_now() is None
    model.release(a, a.breaker.trial)
    assert model.claim_now() is a


async def test_the_fleet_is_told_each_time_that_requests_open_it() -> None:
    a, told = target(), list[Target]()
    model = model_of(a)
    a.suspect = told.append
    for times in (1, 2):
        fail(model, a, 20)
        assert told == [a] * times
        model.close_circuit(a)
    model.open_circuit(a)
    assert len(told) == 2


async def test_the_fleet_may_close_it_or_remove_the_target_while_it_is_told() -> None:
    a, b = target("a"), target("b")
    model = model_of(a, b)
    a.suspect, b.suspect = model.close_circuit, model.remove
    fail(model, a)
    fail(model, b)
    assert (a.circuit, b.removed, model.targets) == ("closed", True, [a])


async def test_who_is_closed_by_a_probe_and_fails_again_is_remembered_until_an_answer_comes() -> None:
    a = target()
    model = model_of(a)
    for row in (1, 2, 3):
        fail(model, a)
        assert a.breaker.row == row
        model.close_circuit(a)
    assert (a.breaker.failures, a.breaker.doubted) == (0, True)
    model.succeeded(a)
    assert (a.breaker.row, a.breaker.doubted) == (0, False)


async def test_what_the_fleet_has_opened_only_the_fleet_closes() -> None:
    a = target()
    model = model_of(a)
    assert model.claim_now() is a
    model.open_circuit(a)
    model.open_circuit(a)
    model.succeeded(a)
    fail(model, a)
    assert (a.circuit, a.breaker.held, a.breaker.retry_at, model.openings) == ("open", True, float("inf"), 1)
    model.release(a)
    model.close_circuit(a)
    assert (a.circuit, a.breaker.held, model.claim_now()) == ("closed", False, a)


async def test_the_fleets_word_ends_the_wait_for_a_trial() -> None:
    a = target()
    model = model_of(a)
    fail(model, a)
    timer = a.breaker._timer
    model.open_circuit(a)
    assert timer is not None
    assert timer.cancelled()
    model.close_circuit(a)
    assert model.claim_now() is a


@pytest.mark.parametrize("state", ["closed", "open", "held", "half_open", "tried"])
@pytest.mark.usefixtures("quick")
async def test_nothing_is_left_of_a_target_that_is_removed(state: str) -> None:
    a = target()
    model = model_of(a)
    if state == "held":
        model.open_circuit(a)
    elif state != "closed":
        fail(model, a)
    timer, trial = a.breaker._timer, 0
    if state in ("half_open", "tried"):
        await reached(a, "half_open")
    if state == "tried":
        assert model.claim_now() is a
        trial = a.breaker.trial
    model.remove(a)
    assert timer is None or timer.cancelled() or state in ("half_open", "tried")
    if state == "tried":
        model.failed(a)
        model.release(a, trial)
    fail(model, a)
    model.succeeded(a)
    model.close_circuit(a)
    model.open_circuit(a)
    assert (model.targets, model.ready, model.claim_now(), a.in_flight) == ([], False, None, 0)
    assert (a.circuit, a.breaker._timer) == ("closed", None)


async def test_it_is_told_once_that_a_removed_target_is_idle() -> None:
    idle, busy, told = target("idle"), target("busy"), list[str]()
    model = model_of(busy)
    assert [model.claim_now(), model.claim_now()] == [busy, busy]
    model.add(idle)
    idle.on_idle, busy.on_idle = (lambda: told.append("idle")), (lambda: told.append("busy"))
    model.remove(busy)
    model.remove(idle)
    model.remove(idle)
    assert told == ["idle"]
    model.release(busy)
    assert told == ["idle"]
    model.release(busy)
    assert told == ["idle", "busy"]


# Those that wait


@pytest.mark.usefixtures("quick")
async def test_who_waits_is_served_one_after_the_other_when_it_is_tried_again() -> None:
    a = target()
    model = model_of(a)
    fail(model, a)
    claims = [asyncio.ensure_future(model.claim()) for _ in range(10)]
    async with asyncio.timeout(10):
        assert await claims[0] is a
        assert (model.waiting, a.in_flight) == (9, 1)
        model.succeeded(a)
        assert await asyncio.gather(*claims) == [a] * 10


async def test_who_waits_is_served_when_the_fleet_closes_it() -> None:
    a = target()
    model = model_of(a)
    model.open_circuit(a)
    claim = asyncio.ensure_future(model.claim())
    await asyncio.sleep(0)
    assert model.waiting == 1
    model.close_circuit(a)
    assert await claim is a


@pytest.mark.usefixtures("quick")
async def test_a_trial_handed_to_who_leaves_in_the_same_moment_is_anothers() -> None:
    a = target()
    model = model_of(a)
    fail(model, a)
    claim = asyncio.ensure_future(model.claim())
    await asyncio.sleep(0)
    while not a.breaker.trial:  # noqa: ASYNC110 - the very turn of the loop in which it is handed over
        await asyncio.sleep(0)
    claim.cancel()
    other = asyncio.ensure_future(model.claim())
    async with asyncio.timeout(10):
        assert await other is a
    assert (claim.cancelled() or claim.result() is None, a.in_flight) == (True, 1)


async def test_nobody_waits_longer_than_the_queue_allows_for_what_is_not_tried_before() -> None:
    a = target()
    model = model_of(a, limits=Limits(queue_timeout=3.0))
    for _ in range(FAILURES):
        model.failed(a, 9.0)
    with pytest.raises(Unavailable) as raised:
        await model.claim()
    assert (raised.value.code, raised.value.retry_after) == ("model_not_ready", 9)
    assert raised.value.message == "model 'm' is not ready: its engine fails every request; it is tried again in 9 s"
    model.remove(a)


@pytest.mark.usefixtures("quick")
async def test_who_waited_in_vain_for_a_trial_is_told_so() -> None:
    a = target()
    model = model_of(a, limits=Limits(queue_timeout=0.3))
    fail(model, a)
    async with asyncio.timeout(10):
        assert await model.claim() is a  # and it does not answer
        with pytest.raises(Unavailable, match="its engine fails every request; it is tried again in 1 s") as raised:
            await model.claim()
    assert raised.value.retry_after == 1
    model.remove(a)


async def test_what_the_fleet_keeps_shut_is_for_the_fleet_to_explain() -> None:
    a = target()
    model = model_of(a, limits=Limits(queue_timeout=0.01))
    model.open_circuit(a)
    assert model.reason == "its engine does not answer its probe"
    with pytest.raises(Unavailable, match="is not ready: its engine does not answer"):
        await model.claim()


async def test_one_that_is_well_leaves_no_word_of_those_that_fail() -> None:
    a, b = target("a"), target("b", 0)
    model = model_of(a, b, limits=Limits(queue_timeout=0.01))
    fail(model, a)
    with pytest.raises(Unavailable) as raised:
        await model.claim()
    assert raised.value.code == "model_busy"
    model.remove(a)


# The catalogue


async def test_replaced_models_are_found_by_the_names_they_have_now() -> None:
    kept, gone, new = (model_of(name=name) for name in ("kept", "gone", "new"))
    kept.aliases = ("old",)
    catalog = Catalog([kept, gone])
    kept.aliases = ("fresh",)
    catalog.replace(each for each in (new, kept))
    assert catalog.names == ["new", "kept", "fresh"]
    assert list(catalog) == [new, kept]
    assert catalog.resolve("fresh") is kept
    for name in ("gone", "old"):
        with pytest.raises(ModelNotFound):
            catalog.resolve(name)


async def test_who_waits_for_a_model_that_is_removed_is_told_at_once_and_others_wait_on() -> None:
    kept, gone = model_of(name="kept"), model_of(name="gone")
    catalog = Catalog([kept, gone])
    waiting = [asyncio.ensure_future(model.claim()) for model in (gone, gone, kept)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    catalog.replace([kept])
    with pytest.raises(ModelNotFound, match="model 'gone' was removed"):
        await waiting[0]
    with pytest.raises(asyncio.CancelledError):
        await waiting[1]
    with pytest.raises(ModelNotFound, match="model 'gone' was removed"):
        await gone.claim()
    a = target()
    kept.add(a)
    assert await waiting[2] is a
    assert (gone.waiting, kept.waiting) == (0, 0)


async def test_a_model_that_is_declared_anew_keeps_its_replicas_and_those_that_wait() -> None:
    a = target(limit=1)
    there = model_of(a)
    catalog = Catalog([there])
    assert there.claim_now() is a
    waiting = asyncio.ensure_future(there.claim())
    await asyncio.sleep(0)
    limits = Limits(queue_size=1)
    catalog.replace([Model("m", kind="rerank", engine="new", aliases=["b"], paths=["/v1/rerank"], limits=limits)])
    assert catalog.resolve("m") is catalog.resolve("b") is there
    assert (there.kind, there.engine, there.limits, there.aliases) == ("rerank", "new", limits, ("b",))
    assert there.paths == {"/v1/rerank"}
    with pytest.raises(Unavailable, match="has 1 requests waiting already"):
        await there.claim()
    there.release(a)
    assert await waiting is a


async def test_a_model_that_was_removed_and_comes_back_is_another_one() -> None:
    before, after = model_of(), model_of()
    catalog = Catalog([before])
    catalog.replace([])
    catalog.replace([after])
    assert catalog.resolve("m") is after
    after.add(target())
    assert after.claim_now() is not None
    with pytest.raises(ModelNotFound):
        await before.claim()


# All of it, in any order


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.usefixtures("quick")
async def test_in_any_order_only_closed_ones_are_shared_and_no_claim_is_lost(seed: int) -> None:  # noqa: PLR0912
    rng = random.Random(seed)  # noqa: S311
    targets = [target(str(number), rng.choice((None, None, 1, 3))) for number in range(rng.randrange(1, 5))]
    model = model_of(*targets)
    held: list[tuple[Target, int]] = []
    for _ in range(500):
        each, step = rng.choice(targets), rng.random()
        if step < 0.4:
            before = {one: one.circuit for one in targets}
            found = model.claim_now(rng.sample(targets, rng.choice((0, 0, len(targets) // 2))))
            if found is not None:
                assert before[found] is not Circuit.OPEN
                held.append((found, found.breaker.trial))
        elif step < 0.65 and held:
            model.release(*held.pop(rng.randrange(len(held))))
        elif step < 0.8:
            model.failed(each)
        elif step < 0.84:
            model.succeeded(each)
        elif step < 0.86:
            model.open_circuit(each)
        elif step < 0.88:
            model.close_circuit(each)
        elif step < 0.89:
            model.remove(each)
        else:
            await asyncio.sleep(0.002)
        for one in targets:
            assert one.in_flight == sum(found is one for found, _ in held)
            trials = [number for found, number in held if found is one and number and number == one.breaker.trial]
            assert len(trials) <= 1
            claimable = one.circuit is Circuit.CLOSED or (one.circuit is Circuit.HALF_OPEN and not trials)
            assert (one in list(model._ready)) == (claimable and not one.removed)
    for one in targets:
        model.remove(one)
    for claim in held:
        model.release(*claim)
    assert not any(one.in_flight for one in targets)

"""Requests that wait for a replica, and which replica they get."""

import asyncio

import pytest
from lab import OK, Engine, Lab, Script, Wire, post, until

pytestmark = pytest.mark.anyio


def numbered(number: int) -> bytes:
    return post(b'{"model":"m","n":%d}' % number)


async def late_engine(lab: Lab) -> Engine:
    """An engine that is up, and no target yet."""
    engine = Engine().answering(OK)
    await engine.start()
    lab.engines.append(engine)
    return engine


async def test_a_request_waits_until_the_engine_is_ready(lab: Lab) -> None:
    engine = await late_engine(lab)
    wire = await lab.send(post(b'{"model":"m"}'))
    await until(lambda: lab.model.waiting == 1)
    lab.add(engine)
    assert (await wire.response()).status == 200


async def test_who_waits_in_vain_is_told_why_and_when_to_come_back(lab: Lab) -> None:
    lab.limits.queue_timeout = 0.05
    lab.model.outlook = "it is loading"
    reply = await lab.chat()
    assert (reply.status, reply.code, reply[b"retry-after"]) == (503, "model_not_ready", b"10")
    assert "it is loading" in reply.json()["detail"]
    assert lab.model.waiting == 0


async def test_who_waits_in_vain_for_busy_replicas_is_told_so(lab: Lab) -> None:
    lab.limits.queue_timeout = 0.05
    release = asyncio.Event()
    await lab.engine(held(release), limit=1)
    first = await lab.send(post(b'{"model":"m"}'))
    await until(lambda: lab.targets[0].in_flight == 1)
    reply = await lab.chat()
    assert (reply.status, reply.code, reply[b"retry-after"]) == (503, "model_busy", b"10")
    release.set()
    assert (await first.response()).status == 200


async def test_a_full_queue_turns_away_at_once(lab: Lab) -> None:
    lab.limits.queue_size = 2
    engine = await late_engine(lab)
    waiting = [await lab.send(post(b'{"model":"m"}')) for _ in range(2)]
    await until(lambda: lab.model.waiting == 2)
    reply = await lab.chat()
    assert (reply.status, reply.code) == (503, "queue_full")
    assert reply[b"retry-after"] is not None
    lab.add(engine)
    assert [(await wire.response()).status for wire in waiting] == [200, 200]


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_who_leaves_frees_the_place_at_once(lab: Lab, how: str) -> None:
    lab.limits.queue_size = 1
    engine = await late_engine(lab)
    leaving = await lab.send(post(b'{"model":"m"}'))
    await until(lambda: lab.model.waiting == 1)
    getattr(leaving, how)()
    await until(lambda: lab.model.waiting == 0, 1.0)
    staying = await lab.send(post(b'{"model":"m"}'))
    await until(lambda: lab.model.waiting == 1)
    lab.add(engine)
    assert (await staying.response()).status == 200
    assert len(engine.requests) == 1


async def test_first_come_first_served(lab: Lab) -> None:
    lab.limits.queue_size = 20
    engine = await late_engine(lab)
    wires = []
    for number in range(20):
        wires.append(await lab.send(numbered(number)))
        await until(lambda: lab.model.waiting == len(wires))
    lab.add(engine, limit=1)
    for wire in wires:
        assert (await wire.response()).status == 200
    assert [request.json()["n"] for request in engine.requests] == list(range(20))


async def test_who_comes_later_does_not_pass_those_who_wait(lab: Lab) -> None:
    """Two at a time; the third waits, and the fourth comes in the moment that a place is free."""
    engine = await lab.engine(limit=1)
    served: list[int] = []

    async def script(wire: Wire) -> None:
        while request := await wire.request():
            served.append(request.json()["n"])
            await wire.send(OK)

    engine.scripts = [script]
    wire = await lab.send(b"".join(numbered(number) for number in range(3)))
    other = await lab.send(b"".join(numbered(number) for number in range(10, 13)))
    for _ in range(3):
        assert (await wire.response()).status == (await other.response()).status == 200
    assert [number for number in served if number < 10] == [0, 1, 2]
    assert [number for number in served if number >= 10] == [10, 11, 12]


async def test_a_replica_never_gets_more_than_its_limit(lab: Lab) -> None:
    lab.limits.queue_size = 100
    working, most, full = 0, 0, asyncio.Event()

    async def script(wire: Wire) -> None:
        nonlocal working, most
        while await wire.request():
            working += 1
            most = max(most, working)
            await full.wait()
            working -= 1
            await wire.send(OK)

    await lab.engine(script, limit=3)
    wires = [await lab.send(post(b'{"model":"m"}')) for _ in range(60)]
    await until(lambda: lab.model.waiting == 57 and working == 3)
    full.set()
    assert {(await wire.response()).status for wire in wires} == {200}
    assert most == 3


def held(release: asyncio.Event) -> Script:
    async def script(wire: Wire) -> None:
        while await wire.request():
            await release.wait()
            await wire.send(OK)

    return script


async def test_the_replica_with_the_least_in_flight_is_asked(lab: Lab) -> None:
    release = asyncio.Event()
    for _ in range(3):
        await lab.engine(held(release))
    wires = []
    for count in range(9):
        wires.append(await lab.send(post(b'{"model":"m"}')))
        await until(lambda: sum(target.in_flight for target in lab.targets) == len(wires))
        loads = sorted(target.in_flight for target in lab.targets)
        assert loads[-1] - loads[0] <= 1, count
    release.set()
    for wire in wires:
        assert (await wire.response()).status == 200


async def test_idle_replicas_take_turns(lab: Lab) -> None:
    engines = [await lab.answering(OK) for _ in range(3)]
    wire = await lab.client()
    for _ in range(9):
        await wire.send(post(b'{"model":"m"}'))
        await wire.response()
    assert [len(engine.requests) for engine in engines] == [3, 3, 3]


async def test_a_removed_replica_ends_what_it_began_and_gets_nothing_more(lab: Lab) -> None:
    release = asyncio.Event()
    old = await lab.engine(held(release))
    first = await lab.send(post(b'{"model":"m"}'))
    await until(lambda: lab.targets[0].in_flight == 1)
    lab.model.remove(lab.targets[0])
    new = await lab.answering(OK)
    assert (await lab.chat()).status == 200
    release.set()
    assert (await first.response()).status == 200
    assert (len(old.wires), len(new.wires)) == (1, 1)
    await old.left()
    assert lab.targets[0].pool is None


async def test_a_claim_handed_over_as_its_task_is_cancelled_is_given_back(lab: Lab) -> None:
    engine = await late_engine(lab)
    task = asyncio.ensure_future(lab.model.claim())
    await until(lambda: lab.model.waiting == 1)
    target = lab.add(engine)  # hands over ...
    assert target.in_flight == 1
    task.cancel()  # ... and before the task has its turn it is cancelled
    with pytest.raises(asyncio.CancelledError):
        await task
    assert target.in_flight == 0


async def test_a_cancelled_claim_is_passed_over(lab: Lab) -> None:
    engine = await late_engine(lab)
    first, second = asyncio.ensure_future(lab.model.claim()), asyncio.ensure_future(lab.model.claim())
    await until(lambda: lab.model.waiting == 2)
    first.cancel()
    target = lab.add(engine, limit=1)
    assert await second is target
    with pytest.raises(asyncio.CancelledError):
        await first
    assert target.in_flight == 1
    lab.model.release(target)


async def test_a_claim_handed_over_in_the_moment_its_time_is_up_is_not_lost(lab: Lab) -> None:
    """Whichever comes first, the books balance."""
    engine = await late_engine(lab)
    lab.limits.queue_timeout = 0.02
    loop = asyncio.get_running_loop()
    for turn in range(20):
        task = asyncio.ensure_future(lab.model.claim())
        await until(lambda: lab.model.waiting == 1)
        loop.call_later(0.02, lab.add, engine)
        await asyncio.wait([task])
        await until(lambda: len(lab.model.targets) == 1)
        target = lab.targets[turn]
        if task.exception() is None:
            assert task.result() is target
            lab.model.release(target)
        assert (target.in_flight, lab.model.waiting) == (0, 0)
        lab.model.remove(target)

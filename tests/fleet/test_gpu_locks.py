"""One start at a time on each GPU."""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from router.fleet.gpu_locks import GpuLocks, Work

PATIENCE = 30.0
A, B, C = "GPU-0", "GPU-1", "GPU-2"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE))


class Start:
    """A start that goes on until it is told to end, in a task of its own."""

    def __init__(self, around: AbstractAsyncContextManager[None]) -> None:
        self.began, self._end = asyncio.Event(), asyncio.Event()
        self.task = asyncio.ensure_future(self._run(around))

    async def _run(self, around: AbstractAsyncContextManager[None]) -> None:
        async with around:
            self.began.set()
            await self._end.wait()

    async def end(self) -> None:
        self._end.set()
        await self.task

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def settled() -> None:
    """Until whatever can go on has gone on: nothing here waits for anything outside the loop."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_two_starts_on_one_gpu_come_one_after_the_other() -> None:
    async def test() -> None:
        locks = GpuLocks()
        one = Start(locks.starting([A], "one"))
        await one.began.wait()
        two = Start(locks.starting([A], "two"))
        await settled()
        assert not two.began.is_set()
        assert locks.in_the_way([A], "two") == Work(A, "one", "starting")
        await one.end()
        await two.began.wait()
        assert locks.work == (Work(A, "two", "starting"),)
        await two.end()
        assert locks.work == ()

    run(test())


def test_starts_on_different_gpus_do_not_wait() -> None:
    async def test() -> None:
        locks = GpuLocks()
        starts = [Start(locks.starting([uuid], uuid)) for uuid in (A, B)]
        for start in starts:
            await start.began.wait()
        assert locks.in_the_way([C], "three") is None
        for start in starts:
            await start.end()

    run(test())


def test_a_start_without_gpus_waits_for_nothing() -> None:
    async def test() -> None:
        locks = GpuLocks()
        async with locks.starting([], "one"), locks.starting([], "two"):
            assert locks.work == ()

    run(test())


def test_a_start_waits_for_a_stop() -> None:
    async def test() -> None:
        locks = GpuLocks()
        with locks.stopping([A, B], "old"):
            start = Start(locks.starting([B, C], "new"))
            await settled()
            assert not start.began.is_set()
            assert locks.in_the_way([B, C], "new") == Work(B, "old", "stopping")
        await start.began.wait()
        await start.end()

    run(test())


def test_a_start_waits_for_every_stop_the_later_one_too() -> None:
    async def test() -> None:
        locks = GpuLocks()
        with locks.stopping([A], "one"):
            start = Start(locks.starting([A], "new"))
            await settled()
            two = locks.stopping([A], "two")
            two.__enter__()
        await settled()
        assert not start.began.is_set()
        two.__exit__(None, None, None)
        await start.began.wait()
        await start.end()

    run(test())


def test_a_stop_waits_for_nothing() -> None:
    async def test() -> None:
        locks = GpuLocks()
        start = Start(locks.starting([A], "new"))
        await start.began.wait()
        with locks.stopping([A], "old"), locks.stopping([A], "older"):
            assert len(locks.work) == 3
        assert locks.work == (Work(A, "new", "starting"),)
        await start.end()

    run(test())


@pytest.mark.parametrize("uuids", [[A], [B], [A, B]])
def test_a_start_that_is_given_up_while_it_waits_leaves_nothing(uuids: list[str]) -> None:
    async def test() -> None:
        locks = GpuLocks()
        first = Start(locks.starting([B] if B in uuids else [A], "first"))
        await first.began.wait()
        waiting = Start(locks.starting(uuids, "waiting"))
        await settled()
        await waiting.cancel()
        assert {work.who for work in locks.work} == {"first"}
        await first.end()
        async with locks.starting([A, B], "last"):
            assert {work.who for work in locks.work} == {"last"}

    run(test())


def test_a_start_that_is_given_up_while_it_waits_for_a_stop_leaves_nothing() -> None:
    async def test() -> None:
        locks = GpuLocks()
        with locks.stopping([A], "old"):
            waiting = Start(locks.starting([A], "waiting"))
            await settled()
            await waiting.cancel()
            assert locks.work == (Work(A, "old", "stopping"),)
        async with locks.starting([A], "last"):
            pass

    run(test())


@pytest.mark.parametrize("how", [ValueError, asyncio.CancelledError])
def test_a_start_that_fails_lets_go(how: type[BaseException]) -> None:
    async def test() -> None:
        locks = GpuLocks()
        with pytest.raises(how):
            async with locks.starting([A, B], "one"):
                raise how
        assert locks.work == ()
        async with locks.starting([A, B], "two"):
            pass

    run(test())


def test_first_come_first_served() -> None:
    async def test() -> None:
        locks, served = GpuLocks(), []

        async def start(number: int) -> None:
            async with locks.starting([A], str(number)):
                served.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*map(start, range(10)))
        assert served == list(range(10))

    run(test())


@pytest.mark.parametrize("seed", range(20))
def test_in_any_order_none_waits_for_ever_and_no_gpu_has_two(seed: int) -> None:
    async def test() -> None:
        chance = random.Random(seed)  # noqa: S311 - not a secret
        locks, busy, done = GpuLocks(), set[str](), []

        async def start(number: int) -> None:
            uuids = chance.sample([A, B, C], chance.randrange(1, 4))
            async with locks.starting(uuids, str(number)):
                assert not busy.intersection(uuids)
                busy.update(uuids)
                try:
                    for _ in range(chance.randrange(3)):
                        await asyncio.sleep(0)
                finally:
                    busy.difference_update(uuids)
            done.append(number)

        tasks = [asyncio.ensure_future(start(number)) for number in range(30)]
        for task in chance.sample(tasks, 5):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait(tasks)
        faults = [task.exception() for task in tasks if not task.cancelled()]
        assert not any(faults)
        assert len(done) >= 25
        assert locks.work == ()

    run(test())

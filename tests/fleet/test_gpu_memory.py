"""Looking at GPUs, and waiting until the memory of an engine that was stopped is free again."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator

import pytest

from router.fleet.gpu_memory import Held, held, look, memory_back
from router.fleet.holders import Holding, taken
from router.fleet.inventory import Gpu, GpuProcess

PATIENCE = 30.0
"""Seconds; more than any test takes that does not fail."""
A, B = "GPU-0", "GPU-1"


def gpu(uuid: str, free: int, *pids: int, each: int | None = 60, listed: bool = True) -> Gpu:
    processes = tuple(GpuProcess(pid, each) for pid in pids)
    return Gpu(int(uuid[-1]), uuid, "H200", 100, free, processes if listed else None)


class Script:
    """An inventory that says one thing after the other, and the last one for ever."""

    def __init__(self, *looks: list[Gpu]) -> None:
        self.looks, self.asked = looks, 0
        self.asked_again = threading.Event()

    def read(self) -> list[Gpu]:
        self.asked += 1
        if self.asked > 1:
            self.asked_again.set()
        return self.looks[min(self.asked, len(self.looks)) - 1]


class Hanging:
    """The driver does not come back until it is let go."""

    def __init__(self, *looks: list[Gpu]) -> None:
        self.looks = iter(looks)
        self.let_go, self.gone = threading.Event(), threading.Event()

    def read(self) -> list[Gpu]:
        for found in self.looks:
            return found
        self.let_go.wait()
        self.gone.set()
        return []


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    driver = Hanging()
    yield driver
    driver.let_go.set()
    assert driver.gone.wait(PATIENCE)


def back(inventory: Script | Hanging, before: Iterable[Held], patience: float = PATIENCE) -> bool:
    return asyncio.run(memory_back(inventory, list(before), patience))


GIVES_UP = """
import asyncio, threading
from router.fleet.gpu_memory import look

class Hanging:
    def read(self):
        threading.Event().wait()

try:
    asyncio.run(look(Hanging(), 0.1))
except TimeoutError:
    print("given up")
"""


class TestLook:
    def test_it_is_what_the_inventory_says(self) -> None:
        assert asyncio.run(look(Script([gpu(A, 5)]), PATIENCE)) == [gpu(A, 5)]

    def test_the_loop_goes_on_meanwhile(self, hanging: Hanging) -> None:
        async def run() -> None:
            looking = asyncio.ensure_future(look(hanging, PATIENCE))
            await asyncio.sleep(0)
            hanging.let_go.set()  # which nobody would, if the loop waited
            assert await looking == []

        asyncio.run(run())

    def test_a_driver_that_hangs_is_given_up_and_keeps_nobody_from_ending(self, hanging: Hanging) -> None:
        with pytest.raises(TimeoutError):
            asyncio.run(look(hanging, 0.1))
        assert not hanging.gone.is_set()

    def test_a_process_that_gave_it_up_can_end(self) -> None:
        done = subprocess.run([sys.executable, "-c", GIVES_UP], timeout=PATIENCE, capture_output=True, check=False)
        assert done.stderr == b""
        assert done.stdout == b"given up\n"

    def test_a_fault_of_the_inventory_is_the_callers(self) -> None:
        class Faulty:
            def read(self) -> list[Gpu]:
                raise ValueError("of ours")

        with pytest.raises(ValueError, match="of ours"):
            asyncio.run(look(Faulty(), PATIENCE))


class TestHeld:
    def test_it_is_by_the_drivers_list_where_that_has_the_engine(self) -> None:
        machine = [gpu(A, 20, 1, 2, 3, each=10), gpu(B, 50, 2)]
        assert held(machine, {A: 99}, {1, 2, 7}) == [Held(A, 20, 20, frozenset({1, 2}))]

    @pytest.mark.parametrize("machine", [[gpu(A, 20, 5)], [gpu(A, 20, listed=False)], [gpu(A, 20, 1, each=None)]])
    def test_it_is_what_was_expected_elsewhere(self, machine: list[Gpu]) -> None:
        (found,) = held(machine, {A: 99, B: 1}, {1})
        assert (found.free, found.used) == (20, 99)


class TestTaken:
    @staticmethod
    def by(before: int | None) -> Holding:
        return Holding(name="m", uuid=A, size=50, pids=frozenset({1}), before=before)

    def test_it_is_by_the_drivers_list_where_that_has_the_engine(self) -> None:
        assert taken(self.by(100), gpu(A, 10, 1, 5, each=40)) == 40
        assert taken(self.by(None), gpu(A, 10, 1, 5, each=40)) == 40

    def test_it_is_what_is_less_free_elsewhere(self) -> None:
        assert taken(self.by(100), gpu(A, 70)) == 30

    def test_it_is_never_less_than_nothing(self) -> None:
        assert taken(self.by(10), gpu(A, 70)) == 0

    def test_nothing_is_known_where_nobody_looked_before(self) -> None:
        assert taken(self.by(None), gpu(A, 70)) == 0


RUNNING = Held(A, 40, 60, frozenset({1, 2}))
UNLISTED = Held(A, 40, 60, frozenset())


class TestMemoryBack:
    def test_it_waits_until_the_processes_are_gone_from_the_list(self) -> None:
        script = Script([gpu(A, 40, 1, 2)], [gpu(A, 40, 2)], [gpu(A, 40, 9)])
        assert back(script, [RUNNING])
        assert script.asked == 3

    def test_three_quarters_of_the_memory_are_enough(self) -> None:
        script = Script([gpu(A, 40, 1)], [gpu(A, 84, 1)], [gpu(A, 85, 1)])
        assert back(script, [RUNNING])
        assert script.asked == 3

    def test_where_the_list_never_had_them_the_memory_alone_decides(self) -> None:
        script = Script([gpu(A, 84)], [gpu(A, 85)])
        assert back(script, [UNLISTED])
        assert script.asked == 2

    def test_a_list_that_is_not_given_is_not_an_empty_one(self) -> None:
        script = Script([gpu(A, 40, listed=False)], [gpu(A, 40)])
        assert back(script, [RUNNING])
        assert script.asked == 2

    def test_a_gpu_that_does_not_answer_has_given_nothing_back(self) -> None:
        script = Script([], [gpu(A, 100)])
        assert back(script, [RUNNING])
        assert script.asked == 2

    def test_each_gpu_is_waited_for_and_one_that_is_back_stays_so(self) -> None:
        other = Held(B, 0, 80, frozenset({1}))
        script = Script([gpu(A, 100), gpu(B, 0, 1)], [gpu(A, 0, 1), gpu(B, 0, 1)], [gpu(A, 0, 1), gpu(B, 80)])
        assert back(script, [RUNNING, other])
        assert script.asked == 3

    @pytest.mark.parametrize("before", [[], [Held(A, 40, 0, frozenset())]])
    def test_there_is_nothing_to_wait_for_where_nothing_is_known(self, before: list[Held]) -> None:
        script = Script([gpu(A, 40)])
        assert back(script, before)
        assert script.asked == 0

    def test_it_has_an_end(self) -> None:
        script = Script([gpu(A, 40, 1)])
        assert not back(script, [RUNNING], 0.3)
        assert script.asked == 2

    def test_a_driver_that_hangs_does_not_hold_it_up(self, hanging: Hanging) -> None:
        hanging.looks = iter([[gpu(A, 40, 1)]])
        assert not back(hanging, [RUNNING], 0.5)

    def test_it_can_be_cancelled(self) -> None:
        script = Script([gpu(A, 40, 1)])

        async def run() -> None:
            waiting = asyncio.ensure_future(memory_back(script, [RUNNING], PATIENCE))
            assert await asyncio.to_thread(script.asked_again.wait, PATIENCE)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        asyncio.run(run())

"""The GPUs of a machine, given out and taken back."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from running import fake, until

from router.config import EngineSpec, load
from router.fleet import gpu_room
from router.fleet.gpu_room import GpuRoom, NoRoom, Seat
from router.fleet.inventory import Gpu, GpuProcess
from router.fleet.remembered import Remembered

DEADLINE = 30.0
GIB = 2**30
A, B = "GPU-a", "GPU-b"


class Machine:
    """GPUs of 80 GiB. `used` has GiB by GPU and pid; `listed`: the driver tells who uses them."""

    def __init__(self, *uuids: str) -> None:
        self.uuids = uuids
        self.used: dict[tuple[str, int], float] = {}
        self.listed = True
        self.answers = threading.Event()
        self.answers.set()
        self.reads = 0

    def read(self) -> list[Gpu]:
        self.reads += 1
        self.answers.wait()
        used = dict(self.used)
        return [self._gpu(index, uuid, used) for index, uuid in enumerate(self.uuids)]

    async def has_read(self, times: int) -> None:
        await asyncio.to_thread(until, lambda: self.reads >= times)

    def _gpu(self, index: int, uuid: str, used: dict[tuple[str, int], float]) -> Gpu:
        here = {pid: int(gib * GIB) for (where, pid), gib in used.items() if where == uuid}
        processes = tuple(GpuProcess(pid, size, "python", "bob") for pid, size in sorted(here.items()))
        return Gpu(index, uuid, "H100", 80 * GIB, 80 * GIB - sum(here.values()), processes if self.listed else None)


@pytest.fixture
def machine() -> Iterator[Machine]:
    one = Machine(A, B)
    yield one
    one.answers.set()


class Told:
    """What was told, and a wait for it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._more = asyncio.Event()

    def __call__(self, words: str) -> None:
        self.words.append(words)
        self._more.set()

    async def until(self, words: str) -> None:
        while words not in self.words:
            self._more.clear()
            await self._more.wait()


class Room:
    """A GpuRoom of a file with these models."""

    def __init__(self, folder: Path, machine: Machine, **models: Any) -> None:
        file = folder / "router.yaml"
        document = {"state_dir": str(folder), "models": {name: fake(**fields) for name, fields in models.items()}}
        file.write_text(json.dumps(document))
        config = load(file, Machine(*machine.uuids).read)
        self.specs = {spec.name: spec for spec in config.models if isinstance(spec, EngineSpec)}
        self.remembered = Remembered(folder / "memory.json")
        self.gpus = GpuRoom(machine, self.remembered, list(self.specs.values()))
        self.machine = machine

    async def seat(self, model: str, replica: int = 0, told: Callable[[str], None] = lambda _: None) -> Seat:
        return await self.gpus.seat(self.specs[model], replica, told)

    async def waiting(self, model: str, words: str) -> "asyncio.Task[Seat]":
        """A seat that is waited for, and the words on what for."""
        told = Told()
        task = asyncio.ensure_future(self.seat(model, 0, told))
        await told.until(words)
        assert not task.done()
        return task

    async def ready(self, model: str, replica: int = 0, *, takes: float, pid: int) -> Seat:
        """One that serves, with a process that takes so much of each of its GPUs."""
        seat = await self.seat(model, replica)
        for uuid in seat.gpus or ():
            self.machine.used[uuid, pid] = takes
        await seat.ready([pid])
        return seat

    def nothing_is_left(self) -> bool:
        return not self.gpus.holdings and not self.gpus.locks.work


def run(test: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE):
            await test

    asyncio.run(limited())


def one(memory: str = "20GiB", gpus: Any = "auto", **fields: Any) -> dict[str, Any]:
    return {"gpus": gpus, "memory": memory, **fields}


def unhurried() -> anyio.Event:
    return anyio.Event()


class TestChoice:
    def test_what_is_chosen_is_reserved_at_once(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, a=one("60GiB"), b=one("50GiB"))

        async def test() -> None:
            assert (await room.seat("a")).gpus == (A,)
            assert (await room.seat("b")).gpus == (B,)
            with pytest.raises(NoRoom, match=r"GPU 0 has 20\.0 GiB of 80\.0 GiB free and 50\.0 GiB is needed"):
                await room.seat("b")

        run(test())

    def test_those_that_start_at_once_are_placed_together_the_largest_first(
        self, tmp_path: Path, machine: Machine
    ) -> None:
        room = Room(tmp_path, machine, small=one("30GiB", replicas=2), large=one("70GiB"), named=one("60GiB", [1]))

        async def test() -> None:
            names = [("small", 0), ("large", 0), ("named", 0)]
            seats = await asyncio.gather(*(room.seat(*name) for name in names), return_exceptions=True)
            gpus = {name: seat.gpus for name, seat in zip(names, seats, strict=True) if isinstance(seat, Seat)}
            assert gpus == {("large", 0): (A,), ("named", 0): (B,)}
            assert [type(seat) for seat in seats] == [NoRoom, Seat, Seat]

        run(test())

    def test_between_equals_the_order_of_the_file_counts_and_not_who_asked_first(
        self, tmp_path: Path, machine: Machine
    ) -> None:
        room = Room(tmp_path, machine, x=one(), y=one())

        async def test() -> None:
            y, x = await asyncio.gather(room.seat("y"), room.seat("x"))
            assert (x.gpus, y.gpus) == ((A,), (B,))

        run(test())

    def test_an_engine_and_the_one_that_follows_it_may_ask_at_once(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one())

        async def test() -> None:
            old, new = await asyncio.gather(room.seat("x"), room.seat("x"))
            assert {old.gpus, new.gpus} == {(A,), (B,)}
            await old.leave()
            assert list(room.gpus.holdings) == ["x#0 (next)"]
            await new.leave()
            assert room.nothing_is_left()

        run(test())

    def test_without_room_a_stranger_is_named_and_later_there_may_be_some(
        self, tmp_path: Path, machine: Machine
    ) -> None:
        room = Room(tmp_path, machine, x=one("70GiB", [0]))
        machine.used[A, 4711] = 61

        async def test() -> None:
            words = r"GPU 0 has 19\.0 GiB .* 70\.0 GiB is needed \(declared\): python \(pid 4711, user bob\) holds 61"
            with pytest.raises(NoRoom, match=words):
                await room.seat("x")
            assert room.nothing_is_left()
            assert "pid 4711" in str(await room.gpus.refusal(room.specs["x"], 0))
            machine.used.clear()
            assert await room.gpus.refusal(room.specs["x"], 0) is None
            assert (await room.seat("x")).gpus == (A,)

        run(test())

    def test_an_engine_of_ours_is_named_by_its_model_while_it_starts_too(
        self, tmp_path: Path, machine: Machine
    ) -> None:
        room = Room(tmp_path, machine, x=one("60GiB", [0]), y=one("70GiB", [0]))

        async def test() -> None:
            seat = await room.seat("x")
            machine.used[A, 5] = 45
            seat.runs([5])
            words = r"GPU 0 has 20\.0 GiB .*: x holds 45\.0 GiB, x will take 15\.0 GiB"
            with pytest.raises(NoRoom, match=words):
                await room.seat("y")

        run(test())

    @pytest.mark.parametrize("listed", [True, False])
    def test_what_a_starting_engine_took_is_not_counted_twice(
        self, tmp_path: Path, machine: Machine, listed: bool
    ) -> None:
        room = Room(tmp_path, machine, x=one("60GiB", [0]), y=one("20GiB", [0]))
        machine.listed = listed

        async def test() -> None:
            seat = await room.seat("x")
            machine.used[A, 5] = 60
            seat.runs([5])
            waiting = await room.waiting("y", "waiting for a GPU: x#0 is starting there")
            await seat.ready([5])
            assert (await waiting).gpus == (A,)

        run(test())

    @pytest.mark.parametrize(("gpus", "given"), [(None, None), ("none", ())])
    def test_who_wants_no_gpu_waits_for_no_driver(
        self, tmp_path: Path, machine: Machine, gpus: Any, given: Any
    ) -> None:
        room = Room(tmp_path, machine, x={"gpus": gpus} if gpus else {})
        machine.answers.clear()

        async def test() -> None:
            seat = await room.seat("x")
            assert seat.gpus == given
            await seat.take()
            await seat.ready([1])
            async with seat.leaving(unhurried(), gone=False):
                pass
            assert await room.gpus.refusal(room.specs["x"], 0) is None
            assert room.nothing_is_left()

        run(test())
        assert machine.reads == 0

    def test_gpus_of_another_vendor_are_dealt_out_by_number_and_no_driver_is_asked(
        self, tmp_path: Path, machine: Machine
    ) -> None:
        other = {"accelerator": "rocm"}
        room = Room(tmp_path, machine, x={**other, "gpus": 2}, y={**other, "gpus": [0]}, z={**other, "gpus": 1})
        machine.answers.clear()

        async def test() -> None:
            assert [(await room.seat(name)).gpus for name in "xyz"] == [("1", "2"), ("0",), ("3",)]

        run(test())
        assert machine.reads == 0

    def test_a_model_that_the_changed_file_has_no_more_is_no_fault(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x={"accelerator": "rocm", "gpus": 1}, y=one())
        room.gpus.specs = []

        async def test() -> None:
            assert (await room.seat("x")).gpus == ("0",)
            assert (await room.seat("y")).gpus == (A,)

        run(test())


class TestStarts:
    def test_two_on_one_gpu_come_one_after_the_other(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one(gpus=[0]), y=one(gpus=[0]), z=one(gpus=[1]))

        async def test() -> None:
            first = await room.seat("x")
            second = await room.waiting("y", "waiting for a GPU: x#0 is starting there")
            assert (await room.seat("z")).gpus == (B,)
            await first.ready([1])
            assert (await second).gpus == (A,)

        run(test())

    def test_one_that_fails_lets_the_next_start(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one(gpus=[0]), y=one(gpus=[0]))

        async def test() -> None:
            first = await room.seat("x")
            second = await room.waiting("y", "waiting for a GPU: x#0 is starting there")
            await first.leave()
            await second

        run(test())

    def test_a_wait_that_is_given_up_leaves_nothing(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one(gpus=[0]), y=one(gpus=[0]))

        async def test() -> None:
            first = await room.seat("x")
            second = await room.waiting("y", "waiting for a GPU: x#0 is starting there")
            second.cancel()
            await asyncio.wait([second])
            assert list(room.gpus.holdings) == ["x#0"]
            assert {work.who for work in room.gpus.locks.work} == {"x#0"}
            await first.leave()
            assert room.nothing_is_left()

        run(test())

    def test_a_choice_that_is_given_up_reserves_nothing(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one(gpus=[0]), y=one(gpus=[0]))
        machine.answers.clear()

        async def test() -> None:
            gives_up, goes_on = [asyncio.ensure_future(room.seat(name)) for name in "xy"]
            await machine.has_read(1)
            gives_up.cancel()
            await asyncio.wait([gives_up])
            machine.answers.set()
            await goes_on
            assert list(room.gpus.holdings) == ["y#0"]

        run(test())

    def test_one_that_waited_looks_again_and_goes_elsewhere_if_others_have_taken_what_it_wanted(
        self, tmp_path: Path, machine: Machine
    ) -> None:
        room = Room(tmp_path, machine, x=one("30GiB"), y=one("40GiB", [0]))
        machine.used[B, 4711] = 49

        async def test() -> None:
            starting = await room.seat("y")
            waiting = await room.waiting("x", "waiting for a GPU: y#0 is starting there")
            machine.used[A, 4] = 75  # more than was thought
            await starting.ready([4])
            assert starting.gpus == (A,)
            assert (await waiting).gpus == (B,)

        run(test())

    def test_an_adopted_engine_that_loads_is_waited_for(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one(gpus=[0]), y=one(gpus=[0]))

        async def test() -> None:
            adopted = room.gpus.adopted(room.specs["x"], 0, (A,))
            waiting = await room.waiting("y", "waiting for a GPU: x#0 is starting there")
            machine.used[A, 1] = 20
            await adopted.ready([1])
            await waiting

        run(test())

    def test_an_adopted_engine_waits_for_nothing(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one(gpus=[0]), y=one(gpus=[0]))

        async def test() -> None:
            await room.seat("y")
            adopted = room.gpus.adopted(room.specs["x"], 0, (A,))
            await adopted.ready([1])
            assert room.gpus.shown(adopted.gpus) == ["0"]
            async with adopted.leaving(unhurried(), gone=False):
                pass
            assert list(room.gpus.holdings) == ["y#0"]

        run(test())


class TestMeasuring:
    @pytest.mark.parametrize("listed", [True, False])
    def test_what_it_took_is_remembered_and_counts_the_next_time(
        self, tmp_path: Path, machine: Machine, listed: bool
    ) -> None:
        room = Room(tmp_path, machine, x={"gpus": "auto"})
        machine.listed = listed

        async def test() -> None:
            machine.used[A, 9] = 1
            assert await room.gpus.refusal(room.specs["x"], 0) is None
            seat = await room.ready("x", takes=33, pid=1)
            await seat.leave()
            machine.used = {(A, 9): 50, (B, 9): 50}
            assert "33.0 GiB is needed (measured)" in str(await room.gpus.refusal(room.specs["x"], 0))

        run(test())
        (size,) = msgspec.json.decode((tmp_path / "memory.json").read_bytes()).values()
        assert size == 33 * GIB

    def test_what_others_give_back_later_is_not_reserved_for_it(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one(gpus=[0]), y=one(gpus=[0]))
        machine.listed, machine.used = False, {(A, 4711): 50}

        async def test() -> None:
            await room.ready("x", takes=20, pid=1)
            machine.used[A, 4711] = 40
            assert await room.gpus.refusal(room.specs["y"], 0) is None

        run(test())

    def test_what_others_took_while_it_waited_is_not_its_own(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one(gpus=[0]), y=one(gpus=[0]))
        machine.listed = False

        async def test() -> None:
            first = await room.seat("x")
            waiting = await room.waiting("y", "waiting for a GPU: x#0 is starting there")
            machine.used[A, 1] = 20
            await first.ready([1])
            second = await waiting
            machine.used[A, 2] = 5
            await second.ready([2])
            assert [each.size for each in room.gpus.holdings["y#0"]] == [5 * GIB]

        run(test())

    def test_memory_that_came_back_during_its_start_is_not_taken_for_its_own(
        self, tmp_path: Path, machine: Machine
    ) -> None:
        room = Room(tmp_path, machine, x=one(gpus=[0]), y={"gpus": [0]})
        machine.listed = False

        async def test() -> None:
            first = await room.ready("x", takes=20, pid=1)
            second = await room.seat("y")
            async with first.leaving(unhurried(), gone=False):
                del machine.used[A, 1]
            machine.used[A, 2] = 30
            await second.ready([2])
            assert list(room.remembered._sizes.values()) == [20 * GIB]  # of x

        run(test())


class TestLeaving:
    @pytest.mark.parametrize("listed", [True, False])
    @pytest.mark.parametrize("gone", [True, False])
    def test_a_start_waits_until_its_memory_is_back(
        self, tmp_path: Path, machine: Machine, listed: bool, gone: bool
    ) -> None:
        room = Room(tmp_path, machine, x=one("60GiB", [0]), y=one("60GiB", [0]))
        machine.listed = listed

        async def test() -> None:
            seat = await room.ready("x", takes=60, pid=1)
            if gone and listed:
                machine.used[A, 1000] = machine.used.pop((A, 1))  # the driver lists who is dead no more
            async with seat.leaving(unhurried(), gone=gone):
                waiting = await room.waiting("y", "waiting for a GPU: x#0 is stopping there")
                machine.used.clear()
            assert (await waiting).gpus == (A,)

        run(test())

    @pytest.mark.parametrize("gone", [True, False])
    def test_it_waits_for_memory_that_comes_late(self, tmp_path: Path, machine: Machine, gone: bool) -> None:
        room = Room(tmp_path, machine, x=one("60GiB", [0]))
        machine.listed = False

        async def test() -> None:
            seat = await room.ready("x", takes=60, pid=1)
            leaving = seat.leaving(unhurried(), gone=gone)
            await leaving.__aenter__()
            ending = asyncio.ensure_future(leaving.__aexit__(None, None, None))
            seen = machine.reads
            await machine.has_read(seen + 2)  # again and again
            assert not ending.done()
            assert not room.nothing_is_left()
            machine.used.clear()
            await ending
            assert room.nothing_is_left()

        run(test())

    def test_what_others_took_since_it_was_ready_is_not_waited_for(
        self, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu_room, "PATIENCE", 2 * DEADLINE)  # it would be late if it waited
        room = Room(tmp_path, machine, x=one("30GiB", [0]), y=one("40GiB", [0]))
        machine.listed = False

        async def test() -> None:
            first = await room.ready("x", takes=30, pid=1)
            await room.ready("y", takes=40, pid=2)
            async with first.leaving(unhurried(), gone=True):
                del machine.used[A, 1]
            assert list(room.gpus.holdings) == ["y#0"]

        run(test())

    def test_memory_that_is_back_before_anybody_saw_the_crash_is_not_waited_for(
        self, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu_room, "PATIENCE", 2 * DEADLINE)  # it would be late if it waited
        room = Room(tmp_path, machine, x=one())
        machine.listed = False

        async def test() -> None:
            seat = await room.ready("x", takes=20, pid=1)
            machine.used.clear()
            async with seat.leaving(unhurried(), gone=True):
                pass
            assert room.nothing_is_left()

        run(test())

    def test_one_that_crashed_while_it_loaded_is_waited_for_too(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one("60GiB", [0]))
        machine.listed = False

        async def test() -> None:
            seat = await room.seat("x")
            machine.used[A, 1] = 30
            leaving = seat.leaving(unhurried(), gone=True)
            await leaving.__aenter__()
            ending = asyncio.ensure_future(leaving.__aexit__(None, None, None))
            seen = machine.reads
            await machine.has_read(seen + 2)
            assert not ending.done()
            machine.used.clear()
            await ending
            assert room.nothing_is_left()

        run(test())

    def test_in_a_hurry_nothing_is_waited_for(
        self, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gpu_room, "PATIENCE", 2 * DEADLINE)  # it would be late if it waited
        room = Room(tmp_path, machine, x=one())

        async def test() -> None:
            seat = await room.ready("x", takes=20, pid=1)
            hurry = unhurried()
            leaving = seat.leaving(hurry, gone=False)
            await leaving.__aenter__()
            ending = asyncio.ensure_future(leaving.__aexit__(None, None, None))
            hurry.set()
            await ending
            assert room.nothing_is_left()

        run(test())


class TestHangingDriver:
    """One that does not answer, with less patience than usual."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu_room, "PATIENCE", 0.2)
        monkeypatch.setattr(gpu_room, "GLANCE", 0.1)

    def test_there_is_no_room_and_the_words_say_why(self, tmp_path: Path, machine: Machine) -> None:
        room = Room(tmp_path, machine, x=one(), y=one())
        machine.answers.clear()

        async def test() -> None:
            found = await asyncio.gather(room.seat("x"), room.seat("y"), return_exceptions=True)
            assert {str(each) for each in found} == {gpu_room.SILENT}
            assert await room.gpus.refusal(room.specs["x"], 0) == gpu_room.SILENT
            assert room.nothing_is_left()
            machine.answers.set()
            await room.seat("x")

        run(test())

    def test_one_that_hangs_when_an_engine_is_ready_only_leaves_it_unmeasured(
        self, tmp_path: Path, machine: Machine
    ) -> None:
        room = Room(tmp_path, machine, x=one(gpus=[0]), y=one(gpus=[0]))

        async def test() -> None:
            seat = await room.seat("x")
            machine.answers.clear()
            await seat.ready([1])
            (holding,) = room.gpus.holdings["x#0"]
            assert (holding.ready, holding.size) == (True, 20 * GIB)
            machine.answers.set()
            await room.seat("y")
            assert not (tmp_path / "memory.json").exists()

        run(test())

    @pytest.mark.parametrize("gone", [True, False])
    @pytest.mark.parametrize("ready", [True, False])
    def test_an_end_has_an_end(self, tmp_path: Path, machine: Machine, gone: bool, ready: bool) -> None:
        room = Room(tmp_path, machine, x=one())

        async def test() -> None:
            seat = await (room.ready("x", takes=20, pid=1) if ready else room.seat("x"))
            machine.answers.clear()
            async with seat.leaving(unhurried(), gone=gone):
                pass
            assert room.nothing_is_left()

        run(test())

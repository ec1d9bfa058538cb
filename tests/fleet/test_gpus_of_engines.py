"""Engines, as real processes under real keepers, on GPUs whose memory these processes hold."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from running import fake, is_alive

from router.catalog import Catalog, Model
from router.cli.ps import _cells
from router.config import Config, EngineSpec, load
from router.events import Event, Events
from router.fleet import gpu_room
from router.fleet.files import Files
from router.fleet.fleet import Fleet
from router.fleet.inventory import Gpu, GpuProcess
from router.fleet.kept import Terms
from router.fleet.local import Local
from router.fleet.orphans import MARKER
from router.fleet.rows import Row

DEADLINE = 30.0
GIB = 2**30
A, B = "GPU-a", "GPU-b"


def environment_of(pid: object) -> list[bytes]:
    """Raises OSError."""
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


class Machine:
    """Two GPUs of 80 GiB. An engine holds what `TAKES` in its environment says, in GiB, on each GPU that it sees, and
    for some more looks after its end; as long as `keeps` is set, for good. `stranger` has what somebody else holds."""

    def __init__(self, folder: Path) -> None:
        self._mark = f"{MARKER}={folder}".encode()
        self.listed = self.keeps = False
        self.stranger: dict[str, int] = {}
        self.answers = threading.Event()
        self.answers.set()
        self.reads = 0
        self.most: dict[str, int] = {A: 0, B: 0}
        self._lock = threading.Lock()
        self._known: dict[int, tuple[dict[str, int], int]] = {}
        """What each pid holds, and how many looks more."""

    def read(self) -> list[Gpu]:
        self.answers.wait()
        with self._lock:
            running = self.engines()
            for pid, held in running.items():
                self._known[pid] = held, 3
            for pid in self._known.keys() - running.keys():
                self._outlive(pid)
            self.reads += 1
            return [self._gpu(index, uuid) for index, uuid in enumerate((A, B))]

    def _outlive(self, pid: int) -> None:
        held, looks = self._known[pid]
        self._known[pid] = held, looks - (not self.keeps)
        if not looks:
            del self._known[pid]

    def _gpu(self, index: int, uuid: str) -> Gpu:
        here = {pid: held[uuid] * GIB for pid, (held, _) in self._known.items() if uuid in held}
        ours = tuple(GpuProcess(pid, size, "python", "me") for pid, size in here.items())
        strangers = (GpuProcess(4711, self.stranger[uuid] * GIB, "train", "bob"),) if uuid in self.stranger else ()
        used = sum(here.values()) + self.stranger.get(uuid, 0) * GIB
        self.most[uuid] = max(self.most[uuid], used // GIB)
        return Gpu(index, uuid, "H100", 80 * GIB, 80 * GIB - used, (*ours, *strangers) if self.listed else None)

    def engines(self) -> dict[int, dict[str, int]]:
        """What the engines that run hold, by pid."""
        found = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                words = environment_of(name)
                if any(word.startswith(self._mark) for word in words):
                    environment = dict(word.decode().split("=", 1) for word in words if b"=" in word)
                    if "TAKES" in environment:
                        gpus = environment["CUDA_VISIBLE_DEVICES"].split(",")
                        found[int(name)] = dict.fromkeys(gpus, int(environment["TAKES"]))
        return found


class House:
    """A fleet on the machine, and what happens in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.machine = folder, Machine(folder)
        self.fleet: Fleet
        self.seen: list[tuple[Event, frozenset[str]]] = []
        """Each event, and which replicas were processes then."""
        self._more = asyncio.Event()

    def config(self, **models: Any) -> Config:
        file = self.folder / "router.yaml"
        file.write_text(json.dumps({"state_dir": str(self.folder), "models": models}))
        return load(file, lambda: [Gpu(0, A, "H100", 80 * GIB, 0), Gpu(1, B, "H100", 80 * GIB, 0)])

    @asynccontextmanager
    async def running(self, config: Config, *, released: bool = False) -> AsyncIterator[Fleet]:
        files, events = Files(self.folder), Events()
        files.make()
        events.listen(self._saw)
        self.catalog = Catalog(map(model, engines(config)))
        runtime = Local(files, self.folder, Terms(10), log_max_size=10**6, log_keep=1)
        self.fleet = Fleet(config, self.catalog, runtime, files, self.machine, events)
        task = asyncio.ensure_future(self.fleet.run())
        try:
            yield self.fleet
        finally:
            if released:
                await self.fleet.release()
            else:
                self.fleet.stop()
            await task
        assert released or not self.machine.engines()

    def apply(self, config: Config) -> None:
        self.catalog.replace(map(model, engines(config)))
        self.fleet.apply(config)

    def _saw(self, event: Event) -> None:
        processes = frozenset(f"{row.model}#{row.replica}" for row in self.fleet.rows() if row.pid)
        self.seen.append((event, processes))
        self._more.set()

    async def until(self, look: Callable[[], Any]) -> None:
        while not look():
            self._more.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), 0.05)

    async def states(self, *states: str) -> list[Row]:
        await self.until(lambda: [row.state for row in self.fleet.rows()] == list(states))
        return self.fleet.rows()

    def row(self, model: str) -> Row:
        return next(row for row in self.fleet.rows() if row.model == model)

    def ready(self) -> list[tuple[str, frozenset[str]]]:
        """The models that got ready, one after the other, and which replicas were processes then."""
        return [(event.model, processes) for event, processes in self.seen if event.state == "ready"]

    def failures(self) -> list[str]:
        return [event.detail for event, _ in self.seen if event.state == "failed"]

    async def looked(self, times: int = 4) -> None:
        """So often more, from now on."""
        seen = self.machine.reads
        await self.until(lambda: self.machine.reads >= seen + times)


def engines(config: Config) -> list[EngineSpec]:
    return [spec for spec in config.models if isinstance(spec, EngineSpec)]


def model(spec: EngineSpec) -> Model:
    return Model(spec.name, kind=spec.kind, engine=spec.engine, paths=spec.paths, limits=spec.limits)


def of(takes: int, gpus: Any, *flags: object, **fields: Any) -> dict[str, Any]:
    """A model that needs, and takes, so many GiB."""
    env = {"TAKES": str(takes), **fields.pop("env", {})}
    return fake(*flags, gpus=gpus, memory=f"{takes}GiB", env=env, **fields)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(gpu_room, "SCARCE", 0.2)
    folder = Path(tempfile.mkdtemp(prefix="er-", dir="/tmp"))
    one = House(folder)
    yield one
    one.machine.answers.set()
    left = one.machine.engines()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    assert not left
    assert max(one.machine.most.values()) <= 80, "two had the same memory"


def run(test: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(DEADLINE):
            await test

    asyncio.run(limited())


def test_replicas_are_spread_and_each_sees_its_gpu_alone(house: House) -> None:
    async def test() -> None:
        async with house.running(house.config(m=of(20, "auto", replicas=3))):
            rows = await house.states("ready", "ready", "ready")
            assert sorted(gpu for row in rows for gpu in row.gpus or ()) == ["0", "0", "1"]
            for row in rows:
                environment = environment_of(row.pid)
                assert f"CUDA_VISIBLE_DEVICES={[A, B][int((row.gpus or ['9'])[0])]}".encode() in environment
                assert b"CUDA_DEVICE_ORDER=PCI_BUS_ID" in environment

    run(test())


def test_two_on_one_gpu_start_one_after_the_other_and_the_row_says_so(house: House) -> None:
    async def test() -> None:
        async with house.running(house.config(x=of(20, [0], "--load", 1), y=of(20, [0], "--load", 1), z=of(20, [1]))):
            words = "waiting for a GPU: x#0 is starting there"
            await house.until(lambda: house.row("y").last_line == words)
            assert _cells(house.row("y"))[-1] == words
            await house.states("ready", "ready", "ready")
            assert _cells(house.row("y"))[-1] == "-"
            ready = dict(house.ready())
            assert [name for name in ready if name != "z"] == ["x", "y"]
            assert "y#0" not in ready["x"]

    run(test())


@pytest.mark.parametrize("listed", [True, False])
def test_the_engine_that_replaces_another_waits_for_its_memory(house: House, listed: bool) -> None:
    house.machine.listed = listed

    async def test() -> None:
        async with house.running(house.config(m=of(60, [0]))):
            (row,) = await house.states("ready")
            house.machine.keeps = True
            house.apply(house.config(m=of(60, [0], env={"NEW": "1"})))
            await house.until(lambda: not is_alive(row.pid or 0))
            await house.looked()
            assert not house.machine.engines()
            house.machine.keeps = False
            await house.until(lambda: house.row("m").state == "ready" and house.row("m").pid not in (None, row.pid))
            assert house.failures() == []

    run(test())


def test_an_engine_of_another_model_waits_for_memory_that_comes_back(house: House) -> None:
    async def test() -> None:
        async with house.running(house.config(x=of(60, [0], "--deaf", stop_grace="1s"), z=of(10, [1]))):
            await house.states("ready", "ready")
            house.apply(house.config(y=of(60, [0]), z=of(10, [1])))
            await house.until(lambda: house.row("y").last_line == "waiting for a GPU: x#0 is stopping there")
            await house.until(lambda: house.row("y").state == "ready")
            assert house.failures() == []

    run(test())


def test_a_stranger_is_named_and_the_engine_starts_by_itself_once_it_is_gone(house: House) -> None:
    house.machine.listed, house.machine.stranger = True, {A: 61}

    async def test() -> None:
        async with house.running(house.config(m=of(60, [0]))):
            (row,) = await house.states("failed")
            words = "GPU 0 has 19.0 GiB of 80.0 GiB free and 60.0 GiB is needed (declared): train (pid 4711, user bob)"
            assert str(row.error).startswith(words)
            house.machine.stranger = {A: 30}
            await house.until(lambda: "holds 30.0 GiB" in str(house.row("m").error))
            assert len(house.failures()) == 1
            house.machine.stranger = {}
            (row,) = await house.states("ready")
            assert (row.error, row.restarts) == (None, 0)

    run(test())


def test_a_start_waits_for_the_memory_of_an_engine_that_crashed(house: House) -> None:
    async def test() -> None:
        async with house.running(house.config(m=of(60, [0]))):
            (row,) = await house.states("ready")
            house.machine.keeps = True
            os.kill(row.pid or 0, signal.SIGKILL)
            await house.states("stopping")
            await house.looked()
            assert not house.machine.engines()
            house.machine.keeps = False
            await house.states("ready")
            assert [words.split(":")[0] for words in house.failures()] == ["was killed by signal 9"]

    run(test())


def test_a_start_waits_for_the_memory_of_an_engine_that_crashed_while_it_loaded(house: House) -> None:
    house.machine.keeps = True

    async def test() -> None:
        crash = ("--load", 2, "--after", 1, "--once", house.folder / "once", "--exit", 3)
        async with house.running(house.config(m=of(60, [0], *crash))):
            await house.until(house.machine.engines)
            await asyncio.to_thread(house.machine.read)  # from now on it has its memory
            await house.states("stopping")
            await house.looked()
            assert not house.machine.engines()
            house.machine.keeps = False
            await house.states("ready")
            assert house.failures() == ["exited with status 3: exiting with 3"]

    run(test())


def test_an_engine_that_loads_is_no_stranger(house: House) -> None:
    house.machine.listed = True

    async def test() -> None:
        async with house.running(house.config(x=of(60, [0], "--mute"), y=of(50, [0]))):
            await house.until(lambda: ": x holds 60.0 GiB" in str(house.row("y").error))

    run(test())


def test_what_waits_for_a_gpu_is_stopped_at_once(house: House) -> None:
    async def test() -> None:
        async with house.running(house.config(x=of(20, [0], "--mute"), y=of(20, [0]))):
            await house.until(lambda: house.row("y").last_line.startswith("waiting for a GPU") and house.row("x").pid)
        assert not any("y#0" in processes for _, processes in house.seen)

    run(test())


def test_a_driver_that_hangs_keeps_no_router_from_ending(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_room, "PATIENCE", 0.5)

    async def test() -> None:
        async with house.running(house.config(x=of(20, [0]), y=of(20, [1]))):
            await house.states("ready", "ready")
            house.machine.answers.clear()

    run(test())


def test_in_a_hurry_no_memory_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_room, "PATIENCE", 2 * DEADLINE)
    house.machine.keeps = True

    async def test() -> None:
        async with house.running(house.config(x=of(20, [0]))) as fleet:
            await house.states("ready")
            fleet.stop()
            await house.until(lambda: not house.machine.engines())
            fleet.kill()

    run(test())


# The first router is no process of its own here, and so the keeper's handle goes before the keeper.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_start_waits_for_an_adopted_engine_that_loads(house: House) -> None:
    async def test() -> None:
        loads = of(20, [0], "--load", 3)
        async with house.running(house.config(x=loads), released=True):
            await house.until(lambda: house.row("x").pid)
            pid = house.row("x").pid
        async with house.running(house.config(x=loads, y=of(20, [0]))):
            await house.until(lambda: house.row("y").last_line == "waiting for a GPU: x#0 is starting there")
            assert house.row("x").pid == pid
            await house.states("ready", "ready")
            ready = dict(house.ready())
            assert list(ready) == ["x", "y"]
            assert "y#0" not in ready["x"]

    run(test())

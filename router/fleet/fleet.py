"""All engines of one router."""

import asyncio

import anyio

from launchers.base import Refusal
from router.catalog import Catalog
from router.config import Config, EngineSpec
from router.events import Events
from router.fleet.engine import Engine, Surroundings
from router.fleet.files import Files
from router.fleet.gpu_room import GpuRoom
from router.fleet.identity import Note, fingerprint, read_note
from router.fleet.inventory import Inventory
from router.fleet.memory import free_memory, resident
from router.fleet.plan import same_engines
from router.fleet.ports import Ports
from router.fleet.remembered import Remembered
from router.fleet.rows import Row
from router.fleet.runtime import Found, Runtime
from router.fleet.slot import Slot
from router.fleet.terminated import TERMINATED, terminated
from router.fleet.told import diagnosis, foremost, outlook, row

RELEASE_WAIT = 5.0
"""Seconds for the engines to be let go of."""


class Fleet:
    """Starts, keeps and ends the engines of `config`, and tells the catalogue which replicas are ready."""

    def __init__(
        self, config: Config, catalog: Catalog, runtime: Runtime, files: Files, inventory: Inventory, events: Events
    ) -> None:
        self._catalog, self._runtime, self._events = catalog, runtime, events
        self._hurry, self._cleared, self._woken = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._ending = self._released = False
        self._specs = _specs(config)
        self._gpus = GpuRoom(inventory, Remembered(files.state_dir / "memory.json"), self._specs)
        self._around = Surroundings(runtime, Ports(), self._gpus, files, config.secrets, self._cleared, self._changed)
        self._slots: dict[Slot, asyncio.Task[None] | None] = {
            self._slot(spec, replica): None for spec in self._specs for replica in range(spec.replicas)
        }

    async def run(self) -> None:
        """Until `stop`, and then until no process of any engine is left; or until `release`. A fault of our own in one
        engine's task ends the others in the same way, and is raised then."""
        found = list(await self._runtime.find())
        rest = self._adopt(found)
        clearing = asyncio.ensure_future(self._clear(rest, [each for each in found if each not in rest]))
        faults: list[BaseException] = []
        while not self._ending or self._slots:
            for slot, task in self._slots.items():
                if task is None:
                    self._slots[slot] = self._begin(slot)
            await self._woken.wait()
            self._woken.clear()
            faults += self._bury()
        await clearing
        if not self._released:
            await self._clear(list(await self._runtime.find()), [])
        if faults:
            raise faults[0]

    def _begin(self, slot: Slot) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(slot.run())
        task.add_done_callback(lambda _: self._woken.set())
        if self._ending:
            slot.stop()
        return task

    def _bury(self) -> list[BaseException]:
        """Those slots that have ended; their faults."""
        ended = {slot: task for slot, task in self._slots.items() if task is not None and task.done()}
        for slot in ended:
            del self._slots[slot]
        faults = [fault for task in ended.values() if (fault := task.exception()) is not None]
        if faults:
            self.stop()
        return faults

    def _adopt(self, found: list[Found]) -> list[Found]:
        """Hands those of an earlier router's engines that the file still wants as they are to their slots; the rest."""
        rest = list(found)
        for slot in self._slots:
            for each in rest:
                note = read_note(each.note)
                if note is not None and each.running and _is_wanted(note, slot.engine.spec, slot.replica):
                    slot.engine.adopt(each, note)
                    rest.remove(each)
                    break
        return rest

    async def _clear(self, rest: list[Found], spared: list[Found]) -> None:
        """What is left of earlier routers ends; then new engines may start."""
        try:
            await asyncio.gather(*(each.end(self._hurry) for each in rest))
            if not self._released:  # else another router has started some by now
                await self._runtime.sweep([each.name for each in spared])
        finally:
            self._cleared.set()

    def _slot(self, spec: EngineSpec, replica: int) -> Slot:
        return Slot(spec, replica, self._engine(spec, replica), self._engine, self._beside)

    def _engine(self, spec: EngineSpec, replica: int) -> Engine:
        return Engine(spec, replica, self._catalog.resolve(spec.name), self._around)

    async def _beside(self, running: Engine, spec: EngineSpec) -> bool:
        """Whether there is memory for an engine of `spec` while `running` stays: on the GPUs, and in the machine for as
        much as that one has."""
        if running.pid is not None and await asyncio.to_thread(resident, running.pid) > free_memory():
            return False
        return await self._gpus.refusal(spec, running.replica) is None

    def apply(self, config: Config) -> None:
        """What the changed file says, from now on: unchanged engines are not touched, and those of a terminated model
        stay away unless it wants other ones."""
        before, self._specs = {spec.name: spec for spec in self._specs}, _specs(config)
        now = {spec.name: spec for spec in self._specs}
        for model in self._catalog:
            model.stopped = model.stopped and _alike(before.get(model.name), now.get(model.name))
        self._gpus.specs = self._specs
        self._around.secrets = config.secrets
        wanted = {(spec.name, replica): spec for spec in self._running for replica in range(spec.replicas)}
        for slot in self._slots:
            if slot.spec is not None:  # else it is on its way out, and its engine with it
                slot.want(wanted.pop((slot.name, slot.replica), None))
        for (_, replica), spec in wanted.items():
            self._slots[self._slot(spec, replica)] = None
        self._woken.set()

    def stop_model(self, name: str) -> bool:
        """Its engines end, as if the file did not want them, until `start_model`, or a file that wants other ones.
        False: none of that name are started here."""
        if all(spec.name != name for spec in self._specs):
            return False
        model = self._catalog.resolve(name)
        model.stop(TERMINATED)
        for slot in self._slots:
            if slot.name == name and slot.spec is not None:
                slot.want(None)
        return True

    def start_model(self, name: str) -> bool:
        """What was terminated starts again. False: none of that name are started here."""
        spec = next((spec for spec in self._specs if spec.name == name), None)
        if spec is None:
            return False
        model = self._catalog.resolve(name)
        if model.stopped and not self._ending:
            model.stopped, model.outlook = False, "its engine starts"
            self._slots |= {self._slot(spec, replica): None for replica in range(spec.replicas)}
            self._woken.set()
        return True

    @property
    def _running(self) -> list[EngineSpec]:
        """Without those of terminated models."""
        return [spec for spec in self._specs if not self._catalog.resolve(spec.name).stopped]

    def stop(self) -> None:
        self._ending = True
        for slot in self._slots:
            slot.stop()
        self._woken.set()

    def kill(self) -> None:
        """After `stop`: nothing is waited for any more."""
        self._hurry.set()
        for slot in self._slots:
            slot.kill()

    async def release(self) -> None:
        """Lets go of every engine, running, for another router; `run` returns then."""
        self._ending = self._released = True
        released = [engine for slot, task in self._slots.items() if task is not None for engine in slot.release()]
        self._woken.set()
        with anyio.move_on_after(RELEASE_WAIT):
            for engine in released:
                await engine.left.wait()

    def rows(self) -> list[Row]:
        """In the file's order; what is on its way out comes last."""
        order = {spec.name: place for place, spec in enumerate(self._specs)}
        slots = sorted(self._slots, key=lambda slot: (order.get(slot.name, len(order)), slot.replica))
        rows = [row(engine, self._gpus.shown(engine.gpus)) for slot in slots for engine in slot.engines]
        there = {each.model for each in rows}
        running = {spec.name for spec in self._running}
        gone = [spec for spec in self._specs if spec.name not in there | running]
        rows += [terminated(spec, replica) for spec in gone for replica in range(spec.replicas)]
        return sorted(rows, key=lambda each: order.get(each.model, len(order)))

    def _changed(self, engine: Engine, detail: str) -> None:
        model = engine.model
        engines = [each for slot in self._slots for each in slot.engines if each.model is model] or [engine]
        if not model.stopped:
            model.outlook, model.diagnosis = outlook(foremost(engines)), diagnosis(engines)
        self._events.emit(engine.spec.name, engine.replica, engine.state, detail)


def _specs(config: Config) -> list[EngineSpec]:
    return [spec for spec in config.models if isinstance(spec, EngineSpec)]


def _alike(before: EngineSpec | None, now: EngineSpec | None) -> bool:
    """Whether a model has the same engines as before."""
    if before is None or now is None:
        return False
    return before.replicas == now.replicas and same_engines(before, now)


def _is_wanted(note: Note, spec: EngineSpec, replica: int) -> bool:
    if (note.model, note.replica) != (spec.name, replica):
        return False
    try:
        return note.fingerprint == fingerprint(spec, note.gpus)
    except Refusal:  # what is on disk has changed since the file was checked
        return False

"""The GPUs of this machine as the fleet gives them out: chosen by free memory, one start at a time on each, and given
back when an engine's memory is free again."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec

from router.config import EngineSpec, first_share
from router.fleet.gpu_locks import GpuLocks
from router.fleet.gpu_memory import Held, held, look, memory_back, taken
from router.fleet.holders import Holding
from router.fleet.identity import Gpus, fingerprint
from router.fleet.inventory import Gpu, Inventory
from router.fleet.need import Need, need
from router.fleet.placement import Refusal, Wish, numbered, place
from router.fleet.remembered import Remembered

PATIENCE = 10.0
"""Seconds for a driver to answer, and for the memory of an engine that has ended to be free again."""

Tell = Callable[[str], None]
"""Takes words on what is waited for."""


class NoRoom(Exception):
    """It does not fit now; later it may. The message says who holds the memory."""


class Seat:
    """One replica's GPUs, from their choice until their memory is back. Without any GPU all of it is nothing."""

    def __init__(self, room: "GpuRoom", who: str, key: str, gpus: Gpus, before: Sequence[Gpu]) -> None:
        self.gpus = gpus
        self._room, self._who, self._key, self._before = room, who, key, before
        self._starting = AsyncExitStack()
        self._held: list[Held] = []

    @property
    def _uuids(self) -> tuple[str, ...]:
        return tuple(holding.uuid for holding in self._room.holdings.get(self._who, ()))

    async def take(self) -> None:
        """Waits until nothing else starts or stops there."""
        await self._starting.enter_async_context(self._room.locks.starting(self._uuids, self._who))

    async def ready(self, pids: Collection[int]) -> None:
        """It has taken what it takes: that is measured, and the next one may start."""
        if self._uuids:
            with suppress(TimeoutError):
                now = await look(self._room.inventory, PATIENCE)
                self._measure(now, pids)
        await self._starting.aclose()

    def _measure(self, now: Sequence[Gpu], pids: Collection[int]) -> None:
        size = taken(self._before, now, self._uuids, pids)
        if size and self._key:
            self._room.remembered.put(self._key, size)
        held_here = self._room.holdings[self._who]
        self._room.holdings[self._who] = [
            msgspec.structs.replace(each, size=size or each.size, pids=frozenset(pids), ready=True)
            for each in held_here
        ]
        self._held = held(now, {each.uuid: size or each.size for each in held_here}, pids)

    @asynccontextmanager
    async def leaving(self) -> AsyncIterator[None]:
        """Around the engine's end: nothing starts there before its memory is back."""
        uuids = self._uuids
        with self._room.locks.stopping(uuids, self._who):
            try:
                yield
                if uuids:
                    await memory_back(self._room.inventory, self._held, PATIENCE)
            finally:
                await self.leave()

    async def leave(self) -> None:
        self._room.holdings.pop(self._who, None)
        await self._starting.aclose()


class GpuRoom:
    """`holdings` by replica (`qwen#0`); `specs` are all of the file. Everything else only asks."""

    def __init__(self, inventory: Inventory, remembered: Remembered, specs: Sequence[EngineSpec]) -> None:
        self.inventory, self.remembered, self.specs = inventory, remembered, specs
        self.locks = GpuLocks()
        self.holdings: dict[str, list[Holding]] = {}
        self._indices: dict[str, str] = {}

    def shown(self, gpus: Gpus) -> list[str] | None:
        """As people count them, where the driver was asked."""
        return None if gpus is None else [self._indices.get(gpu, gpu) for gpu in gpus]

    async def seat(self, spec: EngineSpec, replica: int, tell: Tell) -> Seat:
        """Raises NoRoom."""
        who = self._name(spec, replica)
        if spec.gpus.mode in ("inherit", "none"):
            return Seat(self, who, "", None if spec.gpus.mode == "inherit" else (), ())
        if spec.accelerator != "cuda":
            wishes = [_wish(each, number, None) for each in self._alike(spec) for number in range(each.replicas)]
            return Seat(self, who, "", numbered(wishes)[spec.name, replica].gpus, ())
        while True:
            seat = await self._choose(spec, replica, who)
            try:
                if work := self.locks.in_the_way(seat.gpus or (), who):
                    tell(f"waiting for a GPU: {work.who} is {work.doing} there")
                await seat.take()
                # Meanwhile others may have taken some.
                again = await self._choose(spec, replica, who)
                if again.gpus == seat.gpus:
                    return seat
            except BaseException:
                await seat.leave()
                raise
            await seat.leave()

    def adopted(self, spec: EngineSpec, replica: int, gpus: Gpus) -> Seat:
        """What an engine has that runs already. Its pids are known when it is `ready`."""
        who = self._name(spec, replica)
        if gpus and spec.accelerator == "cuda":
            self.holdings[who] = [Holding(name=spec.name, uuid=uuid, size=0, ready=True) for uuid in gpus]
        return Seat(self, who, "", gpus, ())

    async def fits(self, spec: EngineSpec, replica: int) -> bool:
        """Whether there is room for one more, as things are."""
        if spec.gpus.mode in ("inherit", "none") or spec.accelerator != "cuda":
            return True
        try:
            gpus = await look(self.inventory, PATIENCE)
        except TimeoutError:
            return False
        wish = _wish(spec, replica, await self._need(spec, gpus))
        return not isinstance(place([wish], gpus, self._all_but(""), self._owners())[spec.name, replica], Refusal)

    async def _choose(self, spec: EngineSpec, replica: int, who: str) -> Seat:
        """And reserves it."""
        try:
            gpus = await look(self.inventory, PATIENCE)
        except TimeoutError:
            raise NoRoom(f"the GPU driver does not answer within {PATIENCE:g} s") from None
        self._indices = {gpu.uuid: str(gpu.index) for gpu in gpus}
        wish = _wish(spec, replica, await self._need(spec, gpus))
        found = place([wish], gpus, self._all_but(who), self._owners())[spec.name, replica]
        if isinstance(found, Refusal):
            raise NoRoom(found.reason)
        pairs = zip(found.gpus or (), found.sizes, strict=True)
        self.holdings[who] = [Holding(name=spec.name, uuid=uuid, size=size) for uuid, size in pairs]
        return Seat(self, who, _key(spec, gpus), found.gpus, gpus)

    async def _need(self, spec: EngineSpec, gpus: Sequence[Gpu]) -> Need | None:
        count = max(1, len(first_share(spec) or ()))
        environment: Mapping[str, str] = {**os.environ, **spec.env}
        measured = self.remembered.get(_key(spec, gpus))
        return await asyncio.to_thread(need, spec, count, measured=measured, environment=environment)

    def _name(self, spec: EngineSpec, replica: int) -> str:
        """One that the engine which it follows has not."""
        who = f"{spec.name}#{replica}"
        while who in self.holdings:
            who += " (next)"
        return who

    def _alike(self, spec: EngineSpec) -> list[EngineSpec]:
        return [each for each in self.specs if each.accelerator == spec.accelerator]

    def _all_but(self, who: str) -> list[Holding]:
        return [holding for name, held_here in self.holdings.items() if name != who for holding in held_here]

    def _owners(self) -> dict[int, str]:
        return {pid: holding.name for holding in self._all_but("") for pid in holding.pids}


def _wish(spec: EngineSpec, replica: int, wanted: Need | None) -> Wish:
    request = spec.gpus
    return Wish(
        name=spec.name, replica=replica, replicas=spec.replicas, mode=request.mode, count=request.count,
        ids=request.ids, need=wanted,
    )  # fmt: skip


def _key(spec: EngineSpec, gpus: Sequence[Gpu]) -> str:
    """Of what was measured: another model, other options or another kind of GPU take another amount."""
    kinds = "+".join(sorted({gpu.name for gpu in gpus}))
    return f"{spec.name} {fingerprint(spec, first_share(spec))[:16]} {kinds}"

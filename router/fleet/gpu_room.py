"""The GPUs of this machine as the fleet gives them out: chosen by free memory, one start at a time on each, and given
back when an engine's memory is free again."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio
import msgspec

from launchers.base import Refusal as Refused
from router.config import EngineSpec, first_share
from router.fleet.gpu_locks import GpuLocks, Work
from router.fleet.gpu_memory import Held, held, look, memory_back
from router.fleet.holders import Holding, taken
from router.fleet.identity import Gpus, fingerprint
from router.fleet.inventory import Gpu, Inventory
from router.fleet.need import Need, need
from router.fleet.placement import Placement, Refusal, Wish, numbered, place, share
from router.fleet.remembered import Remembered

PATIENCE = 10.0
"""Seconds for a driver to answer, and for the memory of an engine that has ended to be free again."""
GLANCE = 1.0
"""Seconds for it to answer where somebody waits for an end."""
SCARCE = 5.0
"""Seconds between two looks whether there is room by now."""
SILENT = f"the GPU driver does not answer within {PATIENCE:g} s"

Tell = Callable[[str], None]
"""Takes words on what is waited for; empty: on nothing any more."""


class NoRoom(Exception):
    """It does not fit now; later it may. The message says who holds the memory."""


class Noted:
    """An inventory that keeps what it said `last`."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self.last: list[Gpu] = []

    def read(self) -> list[Gpu]:
        self.last = self._inventory.read()
        return self.last


class Seat:
    """One replica's GPUs, from their choice until their memory is back. Without any GPU all of it is nothing."""

    def __init__(self, room: "GpuRoom", spec: EngineSpec, replica: int, who: str, gpus: Gpus) -> None:
        self.spec, self.replica, self.who, self.gpus = spec, replica, who, gpus
        self._room = room
        self._starting = AsyncExitStack()

    @property
    def _uuids(self) -> tuple[str, ...]:
        return tuple(holding.uuid for holding in self._room.holdings.get(self.who, ()))

    async def take(self) -> None:
        """Waits until nothing else starts or stops there."""
        await self._starting.enter_async_context(self._room.locks.starting(self._uuids, self.who))

    def found_loading(self) -> None:
        """The same of a start that is under way, which waits for nothing."""
        self._starting.enter_context(self._room.locks.loading(self._uuids, self.who))

    def runs(self, pids: Collection[int]) -> None:
        """What these processes hold is its own."""
        holdings = self._room.holdings
        holdings[self.who] = [msgspec.structs.replace(each, pids=frozenset(pids)) for each in holdings[self.who]]

    async def ready(self, pids: Collection[int]) -> None:
        """It has taken what it takes: that is measured, and the next one may start."""
        if self._uuids:
            self.runs(pids)
            with suppress(TimeoutError):
                await self._room.look(PATIENCE)
                self._room.measure(self)
            self._room.settle(self)
        await self._starting.aclose()

    @asynccontextmanager
    async def leaving(self, hurry: anyio.Event, *, gone: bool) -> AsyncIterator[None]:
        """Around the engine's end: nothing starts there before its memory is back, which is waited for unless there is
        a `hurry`. `gone`: it has ended by itself."""
        with self._room.locks.stopping(self._uuids, self.who):
            try:
                self._room.disturb(self)
                before = await self._room.held_by(self, gone=gone)
                yield
                await self._memory_back(before, hurry)
            finally:
                await self.leave()

    async def _memory_back(self, before: Sequence[Held], hurry: anyio.Event) -> None:
        back = asyncio.ensure_future(memory_back(self._room.inventory, before, PATIENCE))
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait((back, hurried), return_when=asyncio.FIRST_COMPLETED)
        finally:
            back.cancel()
            hurried.cancel()

    async def let_go(self) -> None:
        """Of the choice: it is made anew."""
        self._room.holdings[self.who] = []
        await self._starting.aclose()

    async def leave(self) -> None:
        self._room.holdings.pop(self.who, None)
        await self._starting.aclose()


class _Ask:
    """For a choice of GPUs, which are reserved when the answer comes."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.answer: asyncio.Future[Placement | Refusal] = asyncio.get_running_loop().create_future()


class GpuRoom:
    """`holdings` by replica (`qwen#0`), one entry for each seat; `specs` are all of the file. Everything else only
    asks."""

    def __init__(self, inventory: Inventory, remembered: Remembered, specs: Sequence[EngineSpec]) -> None:
        self.inventory, self.remembered, self.specs = Noted(inventory), remembered, specs
        self.locks = GpuLocks()
        self.holdings: dict[str, list[Holding]] = {}
        self._asks: list[_Ask] = []
        self._deciding = set[asyncio.Task[None]]()

    def shown(self, gpus: Gpus) -> list[str] | None:
        """As people count them, where the driver was asked."""
        indices = {gpu.uuid: str(gpu.index) for gpu in self.inventory.last}
        return None if gpus is None else [indices.get(gpu, gpu) for gpu in gpus]

    async def look(self, patience: float) -> list[Gpu]:
        """Raises TimeoutError."""
        return await look(self.inventory, patience)

    async def seat(self, spec: EngineSpec, replica: int, tell: Tell) -> Seat:
        """Raises NoRoom."""
        if spec.gpus.mode in ("inherit", "none"):
            return self._new(spec, replica, None if spec.gpus.mode == "inherit" else ())
        if spec.accelerator != "cuda":
            return self._new(spec, replica, numbered(self._alike(spec))[spec.name, replica].gpus)
        seat = self._new(spec, replica, ())
        try:
            await self._sit(seat, tell)
        except BaseException:
            await seat.leave()
            raise
        return seat

    def adopted(self, spec: EngineSpec, replica: int, gpus: Gpus) -> Seat:
        """What an engine has that runs already. Until it is `ready` it may be loading."""
        seat = self._new(spec, replica, gpus)
        if gpus and spec.accelerator == "cuda":
            self.holdings[seat.who] = [Holding(name=spec.name, uuid=uuid, size=0) for uuid in gpus]
            seat.found_loading()
        return seat

    async def refusal(self, spec: EngineSpec, replica: int) -> str | None:
        """Why there is no room for one more, as things are; None: there is."""
        if spec.gpus.mode in ("inherit", "none") or spec.accelerator != "cuda":
            return None
        try:
            gpus = await self.look(PATIENCE)
        except TimeoutError:
            return SILENT
        wish = _wish(spec, replica, await self._need(spec, gpus))
        found = self._place([wish], gpus)[spec.name, replica]
        return found.reason if isinstance(found, Refusal) else None

    async def room(self, spec: EngineSpec, replica: int, tell: Tell) -> None:
        """Returns once there is some for one more; meanwhile it tells why there is none."""
        while True:
            await anyio.sleep(SCARCE)
            why = await self.refusal(spec, replica)
            if why is None:
                return
            tell(why)

    def _new(self, spec: EngineSpec, replica: int, gpus: Gpus) -> Seat:
        """Under a name that the engine which it follows has not."""
        who = f"{spec.name}#{replica}"
        while who in self.holdings:
            who += " (next)"
        self.holdings[who] = []
        return Seat(self, spec, replica, who, gpus)

    async def _sit(self, seat: Seat, tell: Tell) -> None:
        """Until it has a choice that still holds once nothing else starts or stops there."""
        while True:
            await self._choose(seat, tell)
            if work := self.locks.in_the_way(seat.gpus or (), seat.who):
                tell(f"waiting for a GPU: {work.who} is {work.doing} there")
            await seat.take()
            if await self._holds(seat):
                tell("")
                return
            await seat.let_go()

    async def _choose(self, seat: Seat, tell: Tell) -> None:
        """And reserves it. Memory that is about to be given back is waited for."""
        while True:
            stops = self._stops(seat)
            found = await self._asked(seat)
            if isinstance(found, Placement):
                return
            if still := self._stops(seat):
                tell(f"waiting for a GPU: {still[0].who} is stopping there")
                await self.locks.less()
            elif not stops:
                raise NoRoom(found.reason)

    async def _asked(self, seat: Seat) -> Placement | Refusal:
        ask = _Ask(seat)
        self._asks.append(ask)
        if len(self._asks) == 1:
            deciding = asyncio.ensure_future(self._decide())
            self._deciding.add(deciding)
            deciding.add_done_callback(self._deciding.discard)
        try:
            return await ask.answer
        except TimeoutError:
            raise NoRoom(SILENT) from None

    async def _decide(self) -> None:
        """For all who ask while the driver answers: who starts at the same time as others is given its GPUs in an order
        that does not depend on who was the quickest."""
        asks = self._asks
        try:
            gpus = await self.look(PATIENCE)
            self._asks = []
            names = [spec.name for spec in self.specs] + [ask.seat.spec.name for ask in asks]
            asks.sort(key=lambda ask: (names.index(ask.seat.spec.name), ask.seat.replica))
            needs = await asyncio.gather(*(self._need(ask.seat.spec, gpus) for ask in asks))
            self._answer(list(zip(asks, needs, strict=True)), gpus)
        except Exception as fault:  # whoever waits shall have it
            for ask in asks:
                if not ask.answer.done():
                    ask.answer.set_exception(fault)
        finally:
            if self._asks is asks:
                self._asks = []

    def _answer(self, asks: Sequence[tuple[_Ask, Need | None]], gpus: Sequence[Gpu]) -> None:
        """And reserves: nothing waits in here, so that nobody else is answered meanwhile."""
        rest = [(ask, wanted) for ask, wanted in asks if not ask.answer.done()]
        while rest:
            now = {(ask.seat.spec.name, ask.seat.replica): (ask, wanted) for ask, wanted in reversed(rest)}
            rest = [pair for pair in rest if pair not in now.values()]  # an engine and the one that is to follow it
            wishes = [_wish(ask.seat.spec, ask.seat.replica, wanted) for ask, wanted in reversed(now.values())]
            for which, found in self._place(wishes, gpus).items():
                ask, _ = now[which]
                if isinstance(found, Placement):
                    ask.seat.gpus = found.gpus
                    self._reserve(ask.seat, found)
                ask.answer.set_result(found)

    async def _holds(self, seat: Seat) -> bool:
        """Whether what was chosen still has room, and from now on what is less free there is its own: meanwhile others
        may have taken some."""
        try:
            gpus = await self.look(PATIENCE)
        except TimeoutError:
            raise NoRoom(SILENT) from None
        ids, wanted = seat.gpus or (), await self._need(seat.spec, gpus)
        self.holdings[seat.who] = []
        wish = Wish(name=seat.spec.name, mode="ids", ids=ids, need=wanted)
        found = self._place([wish], gpus)[wish.name, wish.replica]
        if isinstance(found, Refusal):
            return False
        quiet = self.locks.in_the_way(ids, seat.who) is None
        self._reserve(seat, found, {gpu.uuid: gpu.free for gpu in gpus} if quiet else {})
        return True

    def _reserve(self, seat: Seat, found: Placement, before: Mapping[str, int] | None = None) -> None:
        free = before or {}
        self.holdings[seat.who] = [
            Holding(name=seat.spec.name, uuid=uuid, size=size, before=free.get(uuid))
            for uuid, size in zip(found.gpus or (), found.sizes, strict=True)
        ]

    def measure(self, seat: Seat) -> None:
        """What an engine that is ready has taken, as somebody has just looked."""
        gpus = {gpu.uuid: gpu for gpu in self.inventory.last}
        mine = self.holdings[seat.who]
        sizes = [taken(each, gpus[each.uuid]) if each.uuid in gpus else 0 for each in mine]
        key = _key(seat.spec, self.inventory.last)
        if key and max(sizes):
            self.remembered.put(key, max(sizes))
        known = self.remembered.get(key) or 0
        self.holdings[seat.who] = [
            msgspec.structs.replace(each, size=size or each.size or known)
            for each, size in zip(mine, sizes, strict=True)
        ]

    def settle(self, seat: Seat) -> None:
        """It takes no more."""
        mine = self.holdings[seat.who]
        self.holdings[seat.who] = [msgspec.structs.replace(each, ready=True, before=None) for each in mine]

    def disturb(self, seat: Seat) -> None:
        """It gives memory back, so that for others what is less free says no longer what they took."""
        uuids = {holding.uuid for holding in self.holdings[seat.who]}
        for who, held_here in self.holdings.items():
            if who != seat.who:
                self.holdings[who] = [
                    msgspec.structs.replace(each, before=None) if each.uuid in uuids else each for each in held_here
                ]

    async def held_by(self, seat: Seat, *, gone: bool) -> list[Held]:
        """To be asked before its memory comes back: where it is `gone` already, as it was when somebody looked last."""
        mine = self.holdings[seat.who]
        if mine and not (gone and all(each.ready for each in mine)):
            with suppress(TimeoutError):
                await self.look(GLANCE)
        gpus = {gpu.uuid: gpu for gpu in self.inventory.last}
        expected = {
            each.uuid: each.size if each.ready else taken(each, gpus[each.uuid]) for each in mine if each.uuid in gpus
        }
        return held(self.inventory.last, expected, frozenset(pid for each in mine for pid in each.pids))

    async def _need(self, spec: EngineSpec, gpus: Sequence[Gpu]) -> Need | None:
        count = max(1, len(first_share(spec) or ()))
        environment: Mapping[str, str] = {**os.environ, **spec.env}
        measured = self.remembered.get(_key(spec, gpus))
        return await asyncio.to_thread(need, spec, count, measured=measured, environment=environment)

    def _place(self, wishes: Sequence[Wish], gpus: Sequence[Gpu]) -> dict[tuple[str, int], Placement | Refusal]:
        everybody = [holding for held_here in self.holdings.values() for holding in held_here]
        return place(wishes, gpus, everybody, {pid: holding.name for holding in everybody for pid in holding.pids})

    def _stops(self, seat: Seat) -> list[Work]:
        """On the GPUs that it could have."""
        names = share(seat.spec.gpus.ids, seat.replica, seat.spec.replicas)
        usable = {gpu.uuid for gpu in self.inventory.last if not names or {str(gpu.index), gpu.uuid} & set(names)}
        return [work for work in self.locks.work if work.doing == "stopping" and work.uuid in usable]

    def _alike(self, spec: EngineSpec) -> list[Wish]:
        """Of all models on the same kind of GPUs, `spec` among them, though the file may say something else by now."""
        specs = {each.name: each for each in self.specs if each.accelerator == spec.accelerator} | {spec.name: spec}
        return [_wish(each, replica, None) for each in specs.values() for replica in range(each.replicas)]


def _wish(spec: EngineSpec, replica: int, wanted: Need | None) -> Wish:
    request = spec.gpus
    return Wish(
        name=spec.name, replica=replica, replicas=spec.replicas, mode=request.mode, count=request.count,
        ids=request.ids, need=wanted,
    )  # fmt: skip


def _key(spec: EngineSpec, gpus: Sequence[Gpu]) -> str:
    """Of what was measured: another model, other options or another kind of GPU take another amount. Empty where the
    launcher refuses it by now, which its start will say."""
    kinds = "+".join(sorted({gpu.name for gpu in gpus}))
    try:
        return f"{spec.name} {fingerprint(spec, first_share(spec))[:16]} {kinds}"
    except Refused:
        return ""

"""One engine, by way of its keeper: started by this router or adopted from an earlier one."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from router.fleet.handle import Handle
from router.fleet.keeper_shm import SharedMemory
from router.fleet.orphans import kill_marked
from router.fleet.runtime import Exit
from router.fleet.wire import KILL_WAIT, STUCK, Wire

HANDOVER = 30.0
"""Seconds that another router has to adopt an engine that was let go of."""
RENEW = 2.0
"""Seconds between two renewals of a lease."""


class Terms:
    """`orphan_grace`: how long in seconds an engine outlives a router that has ended without ending it."""

    def __init__(self, orphan_grace: float) -> None:
        self.orphan_grace = orphan_grace

    @property
    def lease(self) -> float:
        """The same for a router that is halted, but lives."""
        return self.orphan_grace + 2 * RENEW


class Kept:
    """`events` tells the end and nothing is asked there but to stop, so that no failed write can cost the last message;
    `requests` is for the rest."""

    def __init__(
        self, keeper: Handle | None, path: Path, mark: str, pid: int, terms: Terms, events: Wire, requests: Wire
    ) -> None:
        self.pid, self.name = pid, path.stem
        self._keeper = keeper if keeper is not None else Handle(events.peer)
        self._engine = None
        with suppress(ProcessLookupError):
            self._engine = Handle(pid)
        self._path, self._mark, self._terms = path, mark, terms
        self._events, self._requests = events, requests
        self._deadline: asyncio.TimerHandle | None = None
        """Kills the keeper when it has had all its time to end the engine."""
        self._shm: list[int] = []
        """The shared memory that its keeper has seen, should that be killed."""
        self._root = None
        with suppress(psutil.NoSuchProcess):
            self._root = psutil.Process(pid)

    @classmethod
    async def open(cls, keeper: Handle | None, path: Path, mark: str, pid: int, terms: Terms) -> "Kept":
        """`keeper` None: whoever listens at `path`, an earlier router's. Raises OSError."""
        wires: list[Wire] = []
        try:
            wires.append(await Wire.open(path))
            wires.append(await Wire.open(path))
            return cls(keeper, path, mark, pid, terms, *wires)
        except OSError:
            for wire in wires:
                wire.close()
            raise

    def alive(self) -> bool:
        return self._engine is not None and self._engine.alive

    async def look(self) -> tuple[list[int], str]:
        status = await self._ask("status", "tree")
        if status is None:
            return [], ""
        self._shm = status["shm"]
        return status["tree"], status["last_line"]

    async def exited(self) -> None:
        if self._engine is not None:
            await self._engine.ended()

    async def ended(self) -> Exit:
        renewing = asyncio.ensure_future(self._renew())
        try:
            message = await self._events.receive("exit")
        finally:
            renewing.cancel()
        self._close_wires()
        if message is None:
            self._keeper.kill()
        await self._keeper.ended()
        if self._deadline is not None:
            self._deadline.cancel()
        if message is None:
            await self._clean_up()
        self._close_handles()
        if message is None:
            return Exit(None, "its keeper was killed")
        return Exit(message["exit"], _words(message), tuple(message["left"]))

    def stop(self, grace: float) -> None:
        self._events.send({"op": "stop", "grace": grace})
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace + KILL_WAIT + STUCK
        if self._deadline is None or deadline < self._deadline.when():
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = loop.call_at(deadline, self._keeper.kill)

    def leave(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        grace = max(HANDOVER, self._terms.orphan_grace)  # the next router tells its own
        self._requests.send({"op": "renew", "lease": grace, "orphan_grace": grace})
        self._close_wires()
        self._keeper.close()  # not the engine's: the last requests here still ask whether it lives

    async def _ask(self, op: str, key: str, **more: Any) -> dict[str, Any] | None:
        """None from a keeper that is gone, or stuck."""
        try:
            return await self._requests.ask(op, key, **more)
        except TimeoutError:
            return None

    async def _renew(self) -> None:
        while True:
            terms = self._terms
            answer = await self._ask("renew", "ok", lease=terms.lease, orphan_grace=terms.orphan_grace)
            self._shm = answer["shm"] if answer else self._shm
            await asyncio.sleep(RENEW)

    def _close_wires(self) -> None:
        self._events.close()
        self._requests.close()

    def _close_handles(self) -> None:
        self._keeper.close()
        if self._engine is not None:
            self._engine.close()

    async def _clean_up(self) -> None:
        """Somebody killed the keeper; what it kept is still known by the mark it carries."""
        self._path.unlink(missing_ok=True)
        await asyncio.to_thread(kill_marked, self._mark, self._root)
        await asyncio.to_thread(SharedMemory(self._shm).sweep)


def _words(message: dict[str, Any]) -> str:
    """The engine's last ones, unless it was ended for a reason that it cannot know."""
    reasons = {
        "lease": "the router was halted for longer than `orphan_grace`, and its keeper ended it",
        "signal": "somebody told its keeper to end it",
    }
    tail: str = message.get("tail", "")
    return reasons.get(message.get("reason", ""), tail)

"""The place of one replica: which engine fills it, and how one follows the other when the file changes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from router.config import EngineSpec
from router.fleet.engine import Engine

Make = Callable[[EngineSpec, int], Engine]
"""A new engine for a spec's replica."""
Beside = Callable[[Engine, EngineSpec], Awaitable[bool]]
"""Whether the machine has room for an engine of the spec beside the one that runs."""


class Slot:
    """`spec` is what is wanted; None: nothing any more. One task, `run`, owns `engine`, which serves or will, `next`,
    which is to follow it, and `_leaving`, those that finish their last requests."""

    def __init__(self, spec: EngineSpec, replica: int, engine: Engine, make: Make, beside: Beside) -> None:
        self.spec: EngineSpec | None = spec
        self.name, self.replica = spec.name, replica
        self.engine = engine
        self.next: Engine | None = None
        self._make, self._beside = make, beside
        self._changed = asyncio.Event()
        self._leaving: dict[Engine, asyncio.Task[None]] = {}
        self._stopping = False

    def want(self, spec: EngineSpec | None, *, same: bool = False) -> None:
        """From now on. `same`: the engine of the new spec is the one that runs, and only what the router does with it
        differs."""
        if same and spec is not None and self.next is None:
            self.spec = self.engine.spec = spec
            return
        self.spec = spec
        self._changed.set()

    @property
    def engines(self) -> list[Engine]:
        """The one that serves first."""
        following = [] if self.next is None else [self.next]
        return [self.engine, *following, *self._leaving]

    def stop(self) -> None:
        """All of them; `run` returns when no process of theirs is left."""
        self._stopping = True
        for engine in self.engines:
            engine.stop()

    def kill(self) -> None:
        for engine in self.engines:
            engine.kill()

    def release(self) -> None:
        """Lets go of what runs, for another router; what is on its way out goes on ending."""
        self._stopping = True
        for engine in self._settled():
            engine.release()

    def _settled(self) -> Iterator[Engine]:
        yield self.engine
        if self.next is not None:
            yield self.next

    async def run(self) -> None:
        """Until nothing is wanted here, or `stop` or `release`. Raises a fault of our own."""
        keeping = asyncio.ensure_future(self.engine.run())
        try:
            while not self._stopping and (not keeping.done() or self._changed.is_set()):
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait((keeping, changed), return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if self._changed.is_set() and not self._stopping:
                    self._changed.clear()
                    keeping = await self._follow(keeping)
        finally:
            await asyncio.wait((keeping, *self._leaving.values()))
        for task in (keeping, *self._leaving.values()):
            task.result()

    async def _follow(self, keeping: "asyncio.Task[None]") -> "asyncio.Task[None]":
        """What is wanted now takes the place of what was."""
        if self.spec is None:
            self.engine.stop(self.engine.spec.retire_timeout)
            return keeping
        successor = self.next = self._make(self.spec, self.replica)
        if not await self._beside(self.engine, self.spec):
            self.engine.stop(self.engine.spec.retire_timeout)
            await asyncio.wait((keeping,))
            if self._stopping:
                return keeping
        coming = asyncio.ensure_future(successor.run())
        if not keeping.done() and not await self._serves(successor, coming):
            successor.stop()  # something else is wanted by now
            self._leave(successor, coming)
            self.next = None
            return keeping
        self.engine.stop(self.engine.spec.retire_timeout)
        self._leave(self.engine, keeping)
        self.engine, self.next = successor, None
        return coming

    async def _serves(self, successor: Engine, coming: "asyncio.Task[None]") -> bool:
        """Once it does; False if it is no longer wanted before. One that fails is started again and again, and what
        runs goes on meanwhile."""
        waits = [asyncio.ensure_future(successor.served.wait()), asyncio.ensure_future(self._changed.wait()), coming]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[0].done() or (coming.done() and not self._changed.is_set())
        finally:
            for wait in waits[:2]:
                wait.cancel()

    def _leave(self, engine: Engine, task: "asyncio.Task[None]") -> None:
        self._leaving[engine] = task
        task.add_done_callback(lambda done: self._gone(engine, done))

    def _gone(self, engine: Engine, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._leaving.pop(engine, None)

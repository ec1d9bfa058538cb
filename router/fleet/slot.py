"""The place of one replica: which engine fills it, and how one follows the other when the file changes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from router.config import EngineSpec
from router.fleet.engine import Engine
from router.fleet.plan import same_engines
from router.fleet.states import State

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

    def want(self, spec: EngineSpec | None) -> None:
        """From now on. After None there is no way back: what is wanted again gets another slot."""
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

    def release(self) -> list[Engine]:
        """Lets go of what runs, for another router, which is returned; what is on its way out goes on ending."""
        self._stopping = True
        return [engine for engine in self._settled() if engine.release()]

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
        except BaseException:
            self.stop()
            raise
        finally:
            await asyncio.wait((keeping, *self._leaving.values()))
        for task in (keeping, *self._leaving.values()):
            task.result()

    async def _follow(self, keeping: "asyncio.Task[None]") -> "asyncio.Task[None]":
        """What is wanted now takes the place of what was; the task of the engine that is left. When something else is
        wanted meanwhile, `_changed` is set, and it is for another call."""
        if self.spec is None:
            self._retire()
            return keeping
        if not keeping.done() and same_engines(self.engine.spec, self.spec):
            self.engine.spec = self.spec  # what the router does with it may differ
            return keeping
        successor = self.next = self._make(self.spec, self.replica)
        if not keeping.done() and not await self._may_go_on(self.spec):
            self._retire()
            await asyncio.wait((keeping,))
            if self._stopping or self._changed.is_set():
                self.next = None
                return keeping
        coming = asyncio.ensure_future(successor.run())
        if not keeping.done() and not await self._serves(successor, coming):
            successor.stop()
            await asyncio.wait((coming,))  # its memory is for what comes now
            self.next = None
            return keeping
        self._retire()
        self._leave(self.engine, keeping)
        self.engine, self.next = successor, None
        return coming

    def _retire(self) -> None:
        self.engine.stop(self.engine.spec.retire_timeout)

    async def _may_go_on(self, spec: EngineSpec) -> bool:
        """Whether the present engine serves, and may until the next one does."""
        return self.engine.state is State.READY and await self._beside(self.engine, spec)

    async def _serves(self, successor: Engine, coming: "asyncio.Task[None]") -> bool:
        """Once it does; False if it is no longer wanted before. One that fails is started again and again, and what
        runs goes on meanwhile."""
        serves = asyncio.ensure_future(successor.served.wait())
        try:
            while not serves.done() and not coming.done():
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait((serves, changed, coming), return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if self._changed.is_set() and not self._still_wanted(successor):
                    return False
        finally:
            serves.cancel()
        return True

    def _still_wanted(self, successor: Engine) -> bool:
        if self.spec is None or not same_engines(successor.spec, self.spec):
            return False
        self._changed.clear()
        successor.spec = self.spec
        return True

    def _leave(self, engine: Engine, task: "asyncio.Task[None]") -> None:
        self._leaving[engine] = task
        task.add_done_callback(lambda done: self._gone(engine, done))

    def _gone(self, engine: Engine, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._leaving.pop(engine, None)

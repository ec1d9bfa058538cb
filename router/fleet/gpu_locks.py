"""One start at a time on each GPU, and none while an engine there is being stopped.

Two engines that start on one GPU mis-size each other: each takes what the other is about to take for free (vLLM issues
55827, 56830).
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Literal

import msgspec

Doing = Literal["starting", "stopping"]


class Work(msgspec.Struct, frozen=True):
    """What is under way on the GPU `uuid`, and whose it is."""

    uuid: str
    who: str
    doing: Doing


class GpuLocks:
    """All state is in `_locks`, which starts hold, and `_work`, what is under way; it belongs to one event loop.
    `who` is a replica's name, another one for each."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._work: list[Work] = []
        self._less = asyncio.Event()
        """Set, and replaced, whenever there is less work."""

    @property
    def work(self) -> tuple[Work, ...]:
        return tuple(self._work)

    def in_the_way(self, uuids: Iterable[str], who: str) -> Work | None:
        """What a start of `who` on these GPUs waits for; None: nothing."""
        wanted = set(uuids)
        return next((work for work in self._work if work.uuid in wanted and work.who != who), None)

    @asynccontextmanager
    async def starting(self, uuids: Iterable[str], who: str) -> AsyncIterator[None]:
        """Waits until nothing else is under way on these GPUs, first come first served on each."""
        wanted = sorted(set(uuids))
        async with AsyncExitStack() as stack:
            for uuid in wanted:  # everybody in the same order, so that no two wait for each other
                await stack.enter_async_context(self._locks.setdefault(uuid, asyncio.Lock()))
                stack.enter_context(self._doing(Work(uuid, who, "starting")))
            while self.in_the_way(wanted, who):  # by now only what holds no lock
                await self._less.wait()
            yield

    @contextmanager
    def stopping(self, uuids: Iterable[str], who: str) -> Iterator[None]:
        """Around a stop and the wait for its memory. Waits for nothing: an end never waits for a start."""
        with self._at_once(uuids, who, "stopping"):
            yield

    @contextmanager
    def loading(self, uuids: Iterable[str], who: str) -> Iterator[None]:
        """Around the rest of a start that was found under way. Waits for nothing, as it cannot be held up."""
        with self._at_once(uuids, who, "starting"):
            yield

    async def less(self) -> None:
        """Returns once something that is under way now has ended."""
        await self._less.wait()

    @contextmanager
    def _at_once(self, uuids: Iterable[str], who: str, doing: Doing) -> Iterator[None]:
        with ExitStack() as stack:
            for uuid in sorted(set(uuids)):
                stack.enter_context(self._doing(Work(uuid, who, doing)))
            yield

    @contextmanager
    def _doing(self, work: Work) -> Iterator[None]:
        self._work.append(work)
        try:
            yield
        finally:
            self._work.remove(work)
            self._less.set()
            self._less = asyncio.Event()

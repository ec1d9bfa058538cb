"""What the router and its keepers hold: descriptors and memory, over the life of a router."""

import asyncio

import msgspec
import psutil

from chaos.setting import REPLICAS
from chaos.world import Violated, World

SAMPLES = 5
SAMPLE_EVERY = 0.02
SLACK = 3
"""Descriptors that come and go: a probe, a log being rotated."""
RESTS_WITHIN = 30.0
MIB = 1 << 20


class Life(msgspec.Struct):
    """One router process: the faults it lived through, and what it held first and last. `fds` are without those of
    requests: its clients' connections and its engines'. `keeper_fds` are the most that a keeper held."""

    pid: int
    faults: int
    fds: tuple[int, int]
    keeper_fds: tuple[int, int]
    mib: tuple[float, float]

    def check(self) -> None:
        for whose, (first, last) in (("the router", self.fds), ("a keeper", self.keeper_fds)):
            if last > first + SLACK:
                raise Violated(f"{whose} held {first} descriptors, and {last} after {self.faults} faults")


class Lives:
    """Those of all routers of a run, in their order."""

    def __init__(self, world: World) -> None:
        self.all: list[Life] = []
        self._world = world

    def survived(self) -> None:
        """A fault more, unless it was this router's end."""
        if self.all[-1].pid == self._world.router.pid:
            self.all[-1].faults += 1

    async def rest(self) -> None:
        """Without a load: no connection is kept to an engine for ever."""
        router = psutil.Process(self._world.router.pid)

        async def alone() -> bool:
            return not _carrying(router)

        await self._world.until("the router has let go of its engines' connections", alone, RESTS_WITHIN)
        await self.look()

    async def look(self) -> None:
        """When all is ready. A file with more engines than the first has more descriptors too, and is not compared."""
        world = self._world
        replicas = await world.replicas()
        current = bool(self.all) and self.all[-1].pid == world.router.pid
        if len(replicas) != 3 * REPLICAS:
            return
        pid = world.router.pid
        fds, *keepers = await asyncio.gather(*map(_least, (pid, *(replica.keeper for replica in replicas))))
        keeper_fds = max(keepers)
        mib = psutil.Process(pid).memory_info().rss / MIB
        if not current:
            self.all.append(Life(pid, 0, (fds, fds), (keeper_fds, keeper_fds), (mib, mib)))
            return
        life = self.all[-1]
        life.fds, life.keeper_fds, life.mib = (life.fds[0], fds), (life.keeper_fds[0], keeper_fds), (life.mib[0], mib)
        life.check()


async def _least(pid: int) -> int:
    """Of some looks, as requests and probes come and go."""
    found = []
    for _ in range(SAMPLES):
        found.append(_fds(pid))
        await asyncio.sleep(SAMPLE_EVERY)
    return min(found)


def _fds(pid: int) -> int:
    process = psutil.Process(pid)
    return process.num_fds() - _carrying(process)


def _carrying(process: psutil.Process) -> int:
    """Connections of requests."""
    return sum(each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("tcp"))

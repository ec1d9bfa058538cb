"""One router under chaos, as its user runs it: a file, `router up`, its engines and keepers as processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil
from running import Up

from chaos.oracle import Damage
from chaos.setting import FIRST, KEY, MORE_ALIAS, MORE_KEY, Change, models, replicas, settings
from chaos.wire import get
from router.console.client import SOCKET
from router.fleet.ports import Ports
from router.fleet.rows import Row

RECOVERED_WITHIN = 90.0
"""Seconds: a start waits up to 16 s after some failures in a row, and the machine may be busy."""
ENDED_WITHIN = 30.0
LOOK = 0.05
SHM = Path("/dev/shm")
DISK = "16m"
T = TypeVar("T")


class Violated(Exception):
    """The router did what it must not do. The message says what."""


class Replica(msgspec.Struct, frozen=True):
    """A ready replica's processes and port, and how often this router has started it again."""

    model: str
    number: int
    engine: int
    keeper: int
    port: int
    restarts: int

    @property
    def name(self) -> str:
        return f"{self.model}#{self.number}"


class World:
    """`seen` has every process that was ever the router's, by pid and start; `ports` every port of an engine."""

    def __init__(self) -> None:
        self.up = Up()
        self.port = Ports().take()
        self.change = FIRST
        self.routers: list[subprocess.Popen[bytes]] = []
        self.seen: set[psutil.Process] = set()
        self.ports: set[int] = {self.port}
        self.leave = self.up.folder.name
        """What shared memory of these engines begins with."""
        self.small_disk = False

    # The file and the router

    def write(self, change: Change) -> None:
        self.change = change
        self.up.write(models(change, self.leave), **settings(change, self.port))

    def mount(self) -> None:
        """Puts the state folder on a disk of its own, small enough to be filled; where that is permitted."""
        self.up.state_dir.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "chaos", str(self.up.state_dir)]
        self.small_disk = subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def start(self, *flags: str) -> None:
        """Without waiting for anything."""
        with self.up.output.open("ab") as output:
            argv = [sys.executable, "-m", "router", "up", *flags, "-c", str(self.up.file)]
            self.up.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self.routers.append(self.up.process)
        self.seen.add(psutil.Process(self.up.process.pid))

    @property
    def router(self) -> "subprocess.Popen[bytes]":
        """The one that was started last."""
        return self.routers[-1]

    async def ended(self, router: "subprocess.Popen[bytes]") -> None:
        async def look() -> bool:
            return router.poll() is not None

        await self.until(f"the router with pid {router.pid} has ended", look, ENDED_WITHIN)

    async def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`router WORDS -c FILE`."""
        return await asyncio.to_thread(self.up.cli, *words)

    async def rows(self) -> list[Row]:
        """Empty where no router answers."""
        reply = await get(self.up.state_dir / SOCKET, "/engines")
        rows = msgspec.json.decode(reply.body, type=list[Row]) if reply.status == 200 and reply.complete else []
        self.ports |= {int(row.address.rpartition(":")[2]) for row in rows if row.address}
        return rows

    async def row(self, replica: Replica) -> Row | None:
        rows = await self.rows()
        return next((row for row in rows if (row.model, row.replica) == (replica.model, replica.number)), None)

    # What is there

    async def replicas(self) -> list[Replica]:
        """All of them; every one has to be ready."""
        return [_replica(row) for row in await self.rows() if row.pid is not None]

    async def engines(self) -> frozenset[int]:
        return frozenset(replica.engine for replica in await self.replicas())

    async def leavings(self) -> set[str]:
        """Shared memory of engines that are no more."""
        return self.shared() - {f"{self.leave}-{pid}" for pid in await self.engines()}

    def shared(self) -> set[str]:
        return {name for name in os.listdir(SHM) if name.startswith(f"{self.leave}-")}

    def look(self) -> None:
        """Notes every process that carries this router's mark."""
        for pid in self.up.marked():
            with suppress(psutil.NoSuchProcess):
                self.seen.add(psutil.Process(pid))

    # Waiting

    async def until(self, what: str, look: Callable[[], Awaitable[T | None]], within: float = RECOVERED_WITHIN) -> T:
        """The first truthy value of `look`."""
        end = time.monotonic() + within
        while not (value := await look()):
            if time.monotonic() > end:
                raise Violated(f"not within {within:g} s: {what}; {await self.describe()}")
            await asyncio.sleep(LOOK)
        return value

    async def recovered(self, damage: Damage) -> None:
        """Until every replica that the file declares is ready, and those that were hit are new ones."""

        async def ready() -> bool:
            self._check_alive()
            rows = await self.rows()
            pids = {row.pid for row in rows}
            counts = {name: sum(row.model == name for row in rows) for name in replicas(self.change)}
            return (
                counts == replicas(self.change)
                and all(row.state == "ready" for row in rows)
                and not pids & damage.gone
                and (await get(self.port, "/ready")).status == 200
                and await self._heeds(self.change)
            )

        await self.until(f"all is ready again after {damage.what}", ready)
        if lost := damage.kept - await self.engines():
            raise Violated(f"{damage.what} has cost engines that it did not hit: {sorted(lost)}")
        self.look()

    async def _heeds(self, change: Change) -> bool:
        """Whether the file's keys and aliases hold, and no others."""
        with_key = await get(self.port, "/v1/models", MORE_KEY)
        names = (await get(self.port, "/v1/models", KEY)).body
        return with_key.status == (200 if change.key else 401) and (MORE_ALIAS.encode() in names) == change.alias

    def _check_alive(self) -> None:
        if (status := self.router.poll()) is not None:
            raise Violated(f"the router has ended with {status}")

    async def describe(self) -> str:
        return "; ".join(f"{row.model}#{row.replica} {row.state} {row.error or ''}" for row in await self.rows())

    # The end

    async def down(self) -> list[str]:
        """`router down`; what is left of all that there ever was."""
        self.look()
        done = await self.command("down")
        await self.ended(self.router)
        left = [f"process {each.pid} ({' '.join(each.cmdline())[:100]})" for each in self.seen if _is_alive(each)]
        left += [f"process {pid}, which was never seen" for pid in self.up.marked()]
        left += [f"socket {path}" for path in self.up.state_dir.rglob("*.sock")]
        left += [f"shared memory {name}" for name in self.shared()]
        for port in sorted(self.ports):
            if (await get(port, "/health")).broken != "refused":
                left.append(f"port {port}")
        if done.returncode != 0 or self.router.returncode != 0:
            left.append(f"exit status {self.router.returncode}, `router down` {done.returncode}: {done.stderr}")
        return left

    def close(self) -> None:
        """Ends all that is still there, whatever has happened."""
        for process in self.seen:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        for router in self.routers:
            router.kill()
            router.wait()
        for pid in self.up.marked():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for name in self.shared():
            (SHM / name).unlink(missing_ok=True)
        if self.small_disk:
            argv = ["umount", "--lazy", str(self.up.state_dir)]
            subprocess.run(argv, capture_output=True, check=False)
        self.up.close()


def _replica(row: Row) -> Replica:
    assert row.pid is not None
    assert row.address is not None
    port = int(row.address.rpartition(":")[2])
    return Replica(row.model, row.replica, row.pid, psutil.Process(row.pid).ppid(), port, row.restarts)


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False

"""Where an engine runs: the seam between the fleet and a machine. `local.py` is this machine."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a replica's engine. `env` is complete. `grace`: how long in seconds it may take to end. `note`: what a
    later router has to know of it; it holds the engine's key."""

    model: str
    replica: int
    argv: tuple[str, ...]
    env: Mapping[str, str]
    grace: float
    note: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Start({self.model}#{self.replica})"


class StartFailed(Exception):
    """The engine's process could not be started. The message says why, for people."""


class Exit(msgspec.Struct, frozen=True):
    """How an engine ended: its exit status (negative: the signal; None: unknown), its last words, and the pids of
    whatever could not be ended."""

    status: int | None
    tail: str = ""
    left: tuple[int, ...] = ()

    def describe(self) -> str:
        """One line: how it ended, what it left, and the last line it wrote."""
        how = "ended" if self.status is None else f"exited with status {self.status}"
        if self.status is not None and self.status < 0:
            how = f"was killed by signal {-self.status}"
        if self.left:
            how += f" and left the processes {', '.join(map(str, self.left))}, which cannot be ended"
        lines = [line.strip() for line in self.tail.splitlines() if line.strip()]
        return f"{how}: {lines[-1][:300]}" if lines else how


class Run(Protocol):
    """A started engine. `pid` is its first process, `name` what no other run is called."""

    pid: int
    name: str

    def alive(self) -> bool:
        """Whether its first process runs, at this moment."""

    async def look(self) -> tuple[list[int], str]:
        """The pids of all its processes, and the last line of its output."""

    async def exited(self) -> None:
        """Returns once the first process is gone, whatever it left running."""

    async def ended(self) -> Exit:
        """Returns once the engine and everything it forked is gone, by itself or by `stop`. To be awaited once and all
        the time: it is what keeps the engine alive."""

    def stop(self, grace: float) -> None:
        """Asks for the end of the engine and everything it forked: SIGTERM, `grace` seconds, SIGKILL. Asked again, the
        shorter grace counts."""

    def leave(self) -> None:
        """Lets go of it, running, for another router. `ended` is to be cancelled before."""


class Found(Protocol):
    """What an earlier router left. `since`: when it was started, in seconds since 1970. `running`: it is not ending."""

    name: str
    note: Mapping[str, Any]
    since: float
    running: bool

    async def adopt(self) -> Run:
        """From now on it is this router's. Raises OSError if it has gone meanwhile."""

    async def end(self, hurry: asyncio.Event) -> None:
        """All of it, within the grace that it was started with, and without from when there is a `hurry`."""


class Runtime(Protocol):
    """Starts engines somewhere."""

    async def start(self, start: Start) -> Run:
        """Raises StartFailed. Not to be cancelled."""

    async def find(self) -> Sequence[Found]:
        """What earlier routers left running and can still be spoken to."""

    async def sweep(self, spared: Collection[str]) -> None:
        """Ends what can no longer be spoken to; the runs of these names are none of it."""

"""One replica: one task owns its state from `run` on, and everybody else asks."""

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import anyio
import msgspec

from launchers import LAUNCHERS
from launchers.base import Command
from router.catalog import Address, Model, Target
from router.config import EngineSpec
from router.config.resolve import launch
from router.fleet.ports import Ports
from router.fleet.probe import Prober, listens
from router.fleet.runtime import Exit, Run, Runtime, Start, StartFailed
from router.fleet.states import TRANSITIONS, State

POLL = 0.1
"""Seconds between two probes of a starting engine."""
LOOK = 0.5
"""Seconds between two looks at the last line of its output."""
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0
HEALTHY = 600.0
"""Seconds after which a ready engine's earlier failures are forgotten."""


class Failure(Exception):
    """The engine did not get ready, or ended by itself. The message says why, for people."""


class Surroundings(msgspec.Struct, frozen=True):
    """What all replicas share."""

    runtime: Runtime
    prober: Prober
    ports: Ports
    changed: Callable[["Engine", str], None]
    """Told of each change of a state, with the reason."""


class Engine:
    """`spec`'s replica number `replica`, on `gpus`. Attributes may be read by anyone, and change in `run` alone."""

    def __init__(
        self, spec: EngineSpec, replica: int, gpus: tuple[str, ...] | None, model: Model, around: Surroundings
    ) -> None:
        self.spec, self.replica, self.gpus, self.model = spec, replica, gpus, model
        self.state = State.STOPPED
        self.since = time.monotonic()
        self.error: str | None = None
        self.restarts = 0
        self.pid: int | None = None
        self.target: Target | None = None
        self.port: int | None = None
        self.last_line = ""
        self._around = around
        self._failures = 0
        self._looked = 0.0
        self._unwanted = anyio.Event()
        self._hurry = anyio.Event()

    def stop(self) -> None:
        """Asks for the end; `run` returns once every process is gone."""
        self._unwanted.set()

    def kill(self) -> None:
        """After `stop`: without a grace."""
        self._hurry.set()

    async def run(self) -> None:
        """Keeps the engine running until `stop`."""
        while not self._unwanted.is_set():
            try:
                await self._live()
            except Failure as failure:
                self.error = str(failure)
                self._enter(State.FAILED, self.error)
                await self._back_off()
        if self.state is not State.STOPPED:
            self._enter(State.STOPPED)

    async def _live(self) -> None:
        """One run of the engine, until it is no longer wanted. Raises Failure."""
        port = self.port = self._around.ports.take()
        key = secrets.token_urlsafe(24)
        self._enter(State.STARTING)
        try:
            command = LAUNCHERS[self.spec.engine].command(launch(self.spec, port=port, key=key, gpus=self.gpus))
            run = await self._start(command)
            self.pid = run.pid
            await self._serve(run, command, port, key)
        finally:
            self._around.ports.give_back(port)
            self.pid = self.port = None
            self.last_line = ""

    async def _start(self, command: Command) -> Run:
        env = environment(os.environ, command, self.spec.env)
        start = Start(
            model=self.spec.name, replica=self.replica, argv=command.argv, env=env, grace=self.spec.stop_grace
        )
        try:
            return await self._around.runtime.start(start)
        except StartFailed as error:
            raise Failure(f"cannot start {command.argv[0]}: {error}") from None

    async def _serve(self, run: Run, command: Command, port: int, key: str) -> None:
        """Waits for readiness, then for the end: the engine's own, which is a Failure, or ours."""
        ended = asyncio.ensure_future(run.ended())
        unwanted = asyncio.ensure_future(self._unwanted.wait())
        try:
            if await self._get_ready(run, command, port, key, (ended, unwanted)):
                self._offer(command, port, key)
                await asyncio.wait((ended, unwanted), return_when=asyncio.FIRST_COMPLETED)
        except Failure:
            await self._end(run, ended)
            raise
        finally:
            unwanted.cancel()
            self._withdraw()
        if ended.done():
            raise Failure(ended.result().describe())
        if self.state is State.READY:
            self._enter(State.DRAINING)
        self._enter(State.STOPPING)
        await self._end(run, ended)

    async def _get_ready(
        self, run: Run, command: Command, port: int, key: str, ends: tuple[asyncio.Future[Any], ...]
    ) -> bool:
        """True once it can serve, False when one of `ends` came first. Raises Failure when it takes too long."""
        deadline = time.monotonic() + self.spec.start_timeout
        while not any(end.done() for end in ends):
            if await self._around.prober.ready(command.readiness, port, key):
                pids, self.last_line = await run.look()
                if await asyncio.to_thread(listens, pids, port):
                    return not any(end.done() for end in ends)
                raise Failure(f"port {port} answers, but it is not the engine that listens there")
            if time.monotonic() > deadline:
                raise Failure(f"not ready within {self.spec.start_timeout:g} s (`start_timeout`): {self.last_line}")
            if time.monotonic() - self._looked > LOOK:
                self._looked = time.monotonic()
                _, self.last_line = await run.look()
            await asyncio.wait(ends, timeout=POLL, return_when=asyncio.FIRST_COMPLETED)
        return False

    async def _end(self, run: Run, ended: asyncio.Future[Exit]) -> None:
        """Every process of the run is gone afterwards."""
        if not ended.done():
            ended.cancel()
            await asyncio.wait((ended,))
        if ended.cancelled():
            hurry = asyncio.ensure_future(self._kill_when_told(run))
            left = (await run.stop(self.spec.stop_grace)).left
            hurry.cancel()
            if left:
                self.error = f"the processes {left} could not be ended"

    async def _kill_when_told(self, run: Run) -> None:
        await self._hurry.wait()
        await run.kill()

    def _offer(self, command: Command, port: int, key: str) -> None:
        """The proxy may use it from here on."""
        self.target = Target(
            f"{self.spec.name}#{self.replica}",
            Address("127.0.0.1", port),
            served=command.served,
            paths=command.paths,
            key=key,
            idle=command.keep_alive.idle,
            reuse=command.keep_alive.requests,
            limit=command.concurrency,
        )
        self.error = None
        self._enter(State.READY)
        self.model.add(self.target)

    def _withdraw(self) -> None:
        if self.target is not None:
            self.model.remove(self.target)
            self.target = None

    async def _back_off(self) -> None:
        """Waits longer after each failure in a row, with jitter so that replicas do not start in step."""
        longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(self._failures, 16))
        self._failures += 1
        with anyio.move_on_after(longest * random.uniform(0.5, 1)):  # noqa: S311 - not a secret
            await self._unwanted.wait()
        self.restarts += 1

    def _enter(self, state: State, detail: str = "") -> None:
        if (self.state, state) not in TRANSITIONS:
            raise AssertionError(f"{self.state} cannot become {state}")
        now = time.monotonic()
        if self.state is State.READY and now - self.since > HEALTHY:
            self._failures = 0
        self.state, self.since = state, now
        self._around.changed(self, detail)


def environment(inherited: Mapping[str, str], command: Command, own: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment: the inherited one less what the launcher scrubs, what it sets, and the model's own."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not any(fnmatchcase(name, pattern) for pattern in command.scrub)
    }
    return {**kept, **command.env, **own}

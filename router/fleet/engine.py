"""One replica: one task owns its state from `run` on, and everybody else asks."""

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import anyio
import msgspec

from launchers import LAUNCHERS
from launchers.base import Command, Refusal
from router.catalog import Address, Model, Target
from router.config import EngineSpec, launch
from router.fleet.ports import Ports
from router.fleet.probe import listens, ready
from router.fleet.runtime import Exit, Run, Runtime, Start, StartFailed
from router.fleet.states import TRANSITIONS, State

POLL = 0.05
"""Seconds between two probes of a starting engine."""
LOOK = 0.5
"""Seconds between two looks at the last line of its output."""
LEFTOVERS = 0.5
"""Seconds after the end of its first process from which an engine is said to have left something running."""
FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0
HEALTHY = 600.0
"""Seconds after which a ready engine's earlier failures are forgotten."""


class Failure(Exception):
    """The engine did not get ready, or ended by itself. The message says why, for people."""


class Surroundings(msgspec.Struct, frozen=True):
    """What all replicas share."""

    runtime: Runtime
    ports: Ports
    secrets: frozenset[str]
    """Variables of the router's environment that no engine inherits."""
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
        self._enter(State.STARTING)
        try:
            port = self.port = self._around.ports.take()
        except OSError as error:
            raise Failure(str(error)) from None
        key = secrets.token_urlsafe(24)
        try:
            command = self._command(port, key)
            run = await self._start(command)
            self.pid = run.pid
            await self._serve(run, command, port, key)
        except Failure as failure:
            raise Failure(str(failure).replace(key, "(its key)")) from None
        finally:
            self._around.ports.give_back(port)
            self.pid = self.port = None
            self.last_line = ""

    def _command(self, port: int, key: str) -> Command:
        """The launcher refused nothing when the file was checked; what is on disk may have changed since."""
        try:
            return LAUNCHERS[self.spec.engine].command(launch(self.spec, port=port, key=key, gpus=self.gpus))
        except Refusal as refusal:
            raise Failure(str(refusal)) from None

    async def _start(self, command: Command) -> Run:
        inherited = {name: value for name, value in os.environ.items() if name not in self._around.secrets}
        env = environment(inherited, command, self.spec.env)
        start = Start(
            model=self.spec.name, replica=self.replica, argv=command.argv, env=env, grace=self.spec.stop_grace
        )
        try:
            return await self._around.runtime.start(start)
        except StartFailed as error:
            raise Failure(str(error)) from None

    async def _serve(self, run: Run, command: Command, port: int, key: str) -> None:
        """Waits for readiness, then for the end: the engine's own, which is a Failure, or ours."""
        ended = asyncio.ensure_future(run.ended())
        ends = [ended, asyncio.ensure_future(run.exited()), asyncio.ensure_future(self._unwanted.wait())]
        failure: Failure | None = None
        try:
            await self._get_ready(run, command, port, key, ends)
            if not any(end.done() for end in ends):
                self._offer(command, port, key)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except Failure as error:
            failure = error
        finally:
            self._withdraw()
            for end in ends[1:]:
                end.cancel()
        by_itself = failure is None and (ended.done() or not self._unwanted.is_set())
        exit = await self._end(run, ended, by_itself=by_itself)  # noqa: A001
        if failure is not None or by_itself:
            raise failure or Failure(exit.describe())

    async def _get_ready(
        self, run: Run, command: Command, port: int, key: str, ends: Sequence[asyncio.Future[Any]]
    ) -> None:
        """Returns once it can serve, or one of `ends` has come. Raises Failure when it takes too long."""
        probing = asyncio.ensure_future(self._probe(run, command, port, key))
        try:
            timeout = self.spec.start_timeout
            done, _ = await asyncio.wait((probing, *ends), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if probing in done:
                probing.result()
            elif not done:
                raise Failure(f"not ready within {timeout:g} s (`start_timeout`): {self.last_line}")
        finally:
            probing.cancel()

    async def _probe(self, run: Run, command: Command, port: int, key: str) -> None:
        """Returns once the probe answers and the port is the engine's own. Raises Failure if it is somebody else's."""
        pids: list[int] = []
        looked = 0.0
        while not (await ready(command.readiness, port, key) and (pids := await self._look(run))):
            if time.monotonic() - looked > LOOK:
                looked = time.monotonic()
                await self._look(run)
            await anyio.sleep(POLL)
        if not await asyncio.to_thread(listens, pids, port):
            raise Failure(f"port {port} answers, but it is not the engine that listens there")

    async def _look(self, run: Run) -> list[int]:
        pids, self.last_line = await run.look()
        return pids

    async def _end(self, run: Run, ended: asyncio.Future[Exit], *, by_itself: bool) -> Exit:
        """Every process of the run is gone afterwards. If the first exited `by_itself` nothing else may be left."""
        if by_itself:
            await asyncio.wait((ended,), timeout=LEFTOVERS)
        if not ended.done():
            if self.state is State.READY and not by_itself:
                self._enter(State.DRAINING)
            self._enter(State.STOPPING)
            run.stop(self.spec.stop_grace)
            hurry = asyncio.ensure_future(self._hurry.wait())
            await asyncio.wait((ended, hurry), return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            if not ended.done():
                run.stop(0)
        exit = await ended  # noqa: A001
        if exit.left:
            self.error = f"the processes {exit.left} could not be ended"
        return exit

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
            return
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
    env = {**kept, **command.env, **own}
    # What an engine's environment brings along (ninja for vLLM's kernels) is found as if it were activated. A folder
    # that is on PATH already keeps its place: /bin of `bash serve.sh` must not come before the user's own environment.
    program, path = Path(command.argv[0]), env.get("PATH", os.defpath)
    if program.is_absolute() and str(program.parent) not in path.split(os.pathsep):
        env["PATH"] = f"{program.parent}{os.pathsep}{path}"
    return env

"""One replica: one task owns its state from `run` on, and everybody else asks."""

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import anyio
import msgspec

from launchers.base import Command, Refusal
from router.catalog import Model, Target
from router.config import EngineSpec
from router.fleet.autopsy import Autopsy, Findings
from router.fleet.environment import environment
from router.fleet.files import Files
from router.fleet.gpu_room import GpuRoom, NoRoom
from router.fleet.identity import Gpus, Note, command_of, fingerprint
from router.fleet.life import Life
from router.fleet.liveness import Liveness, Wedged
from router.fleet.ports import Ports
from router.fleet.probe import Never, listens, ready
from router.fleet.runtime import Exit, Found, Run, Runtime, Start, StartFailed
from router.fleet.states import TRANSITIONS, State

T = TypeVar("T")

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
    """The engine did not get ready, or ended by itself. The message says why, for people. `waited`: the seconds of
    `start_timeout` that were not enough."""

    def __init__(self, message: str, *, waited: float | None = None) -> None:
        super().__init__(message)
        self.waited = waited


class Unwanted(Exception):
    """It is no longer wanted, and nothing of it was started yet."""


class Surroundings(msgspec.Struct):
    """What all replicas share."""

    runtime: Runtime
    ports: Ports
    gpus: GpuRoom
    files: Files
    secrets: frozenset[str]
    """Variables of the router's environment that no engine inherits."""
    cleared: asyncio.Event
    """What an earlier router left and nobody wants is gone."""
    changed: Callable[["Engine", str], None]
    """Told of each change of a state, with the reason."""


class Engine:
    """`spec`'s replica number `replica`. Attributes may be read by anyone, and change in `run` alone."""

    def __init__(self, spec: EngineSpec, replica: int, model: Model, around: Surroundings) -> None:
        self.spec, self.replica, self.model = spec, replica, model
        self.state = State.STOPPED
        self.since = time.monotonic()
        self.error: str | None = None
        self.findings: Findings | None = None
        """Of the last run that failed, until one is ready again."""
        self.restarts = 0
        self.gpus: Gpus = None
        self.pid: int | None = None
        self.target: Target | None = None
        self.port: int | None = None
        self.last_line = ""
        self.life: Life | None = None
        self.served = anyio.Event()
        """It has been ready once."""
        self.left = anyio.Event()
        """`run` has ended."""
        self._around = around
        self._found: tuple[Found, Note] | None = None
        self._failures = 0
        self._unwanted = anyio.Event()
        self._hurry = anyio.Event()
        self._released = False
        self._drain = 0.0
        self._drained = anyio.Event()

    def adopt(self, found: Found, note: Note) -> None:
        """Before `run`: the first time it is this, of an earlier router, rather than started."""
        self._found = (found, note)

    def stop(self, drain: float = 0.0) -> None:
        """Asks for the end; `run` returns once every process is gone. Requests in flight may go on for `drain` seconds;
        asked again without, no longer."""
        if drain and not self._unwanted.is_set():
            self._drain = drain
        elif not drain:
            self._drained.set()
        self._unwanted.set()

    def kill(self) -> None:
        """After `stop`: without a grace."""
        self._hurry.set()

    def release(self) -> bool:
        """Asks to let go of the engine as it is, for another router; `run` returns then. False: it ends already."""
        if self._unwanted.is_set():
            return False
        self._released = True
        self._unwanted.set()
        return True

    async def run(self) -> None:
        """Keeps the engine running until `stop` or `release`."""
        try:
            await self._keep()
        finally:
            self.left.set()

    async def _keep(self) -> None:
        while not self._unwanted.is_set():
            try:
                await self._live()
            except Unwanted:
                break
            except NoRoom as scarcity:
                self.error, self.findings = str(scarcity), None
                self._enter(State.FAILED, self.error)
                with suppress(Unwanted):
                    await self._unless_unwanted(self._around.gpus.room(self.spec, self.replica, self._refused))
            except Failure as failure:
                self.error = str(failure)
                self._enter(State.FAILED, self.error)
                await self._back_off()
        if self.state is not State.STOPPED and not self._released:
            self._enter(State.STOPPED)

    async def _live(self) -> None:
        """One run of the engine, until it is no longer wanted. Raises Failure, NoRoom, Unwanted."""
        self._enter(State.STARTING, "an earlier router's, as it is" if self._found else "")
        try:
            life = self.life = await self._adopt() or await self._start()
            await self._serve(life)
        finally:
            if self.port is not None:
                self._around.ports.give_back(self.port)
            self.life = self.pid = self.port = None
            self.last_line = ""

    async def _adopt(self) -> Life | None:
        """What an earlier router has started, once."""
        if self._found is None:
            return None
        (found, note), self._found = self._found, None
        try:
            command = command_of(self.spec, note.port, note.key, note.gpus)
            run = await found.adopt()
        except (Refusal, OSError):  # it has gone meanwhile
            return None
        self._around.ports.hold(note.port)
        self.pid, self.port, self.gpus = run.pid, note.port, note.gpus
        seat = self._around.gpus.adopted(self.spec, self.replica, note.gpus)
        autopsy = Autopsy(self._around.files, self.spec, self.replica, found.since)
        return Life(run, command, note.port, note.key, seat, autopsy, max(0.0, time.time() - found.since))

    async def _start(self) -> Life:
        await self._unless_unwanted(self._around.cleared.wait())
        seat = await self._unless_unwanted(self._around.gpus.seat(self.spec, self.replica, self._wait_for))
        self.gpus, autopsy = seat.gpus, Autopsy(self._around.files, self.spec, self.replica)
        try:
            if self._unwanted.is_set():
                raise Unwanted
            port = self.port = self._around.ports.take()
            key = secrets.token_urlsafe(24)
            command = command_of(self.spec, port, key, seat.gpus)
            note = Note(
                model=self.spec.name, replica=self.replica, port=port, key=key, gpus=seat.gpus,
                fingerprint=fingerprint(self.spec, seat.gpus),
            )  # fmt: skip
            run = await self._around.runtime.start(self._described(command, note))
        except (OSError, Refusal, StartFailed) as error:
            await seat.leave()
            raise Failure(str(error)) from None
        except BaseException:
            await seat.leave()
            raise
        self.pid = run.pid
        return Life(run, command, port, key, seat, autopsy)

    def _wait_for(self, words: str) -> None:
        self.last_line = words

    def _refused(self, words: str) -> None:
        self.error = words

    def _described(self, command: Command, note: Note) -> Start:
        inherited = {name: value for name, value in os.environ.items() if name not in self._around.secrets}
        return Start(
            model=self.spec.name,
            replica=self.replica,
            argv=command.argv,
            env=environment(inherited, command, self.spec.env),
            grace=self.spec.stop_grace,
            note=msgspec.to_builtins(note),
        )

    async def _serve(self, life: Life) -> None:
        """Waits for readiness, then for the end: the engine's own, which is a Failure, or ours."""
        run = life.run
        ended = asyncio.ensure_future(run.ended())
        ends = [ended, asyncio.ensure_future(run.exited()), asyncio.ensure_future(self._unwanted.wait())]
        failure: Failure | None = None
        try:
            await self._get_ready(life, ends)
            if not any(end.done() for end in ends):
                await self._settle(life, ends)
            if not any(end.done() for end in ends):
                await self._stay_ready(life, ends)
        except Failure as error:
            failure = error
        finally:
            for end in ends[1:]:
                end.cancel()
        if self._released and not ended.done():
            ended.cancel()
            await asyncio.wait((ended,))
            run.leave()
            return
        by_itself = failure is None and (ended.done() or not self._unwanted.is_set())
        if failure is None and not by_itself and self.state is State.READY:
            self._enter(State.DRAINING)
            await self._let_finish(ended)
        async with life.seat.leaving(self._hurry, gone=by_itself):
            exit = await self._end(run, ended, by_itself=by_itself)  # noqa: A001
            if life.seat.gpus and self.state is not State.STOPPING:
                self._enter(State.STOPPING)  # their memory is waited for
        if failure is not None or by_itself:
            failure = failure or Failure(exit.describe())
            self.findings = await life.autopsy.findings(
                life.command, life.port, life.key, exit.status if by_itself else None, failure.waited
            )
            raise Failure(str(failure).replace(life.key, "(its key)"))

    async def _get_ready(self, life: Life, ends: Sequence[asyncio.Future[Any]]) -> None:
        """Returns once it can serve, or one of `ends` has come. Raises Failure when it takes too long."""
        probing = asyncio.ensure_future(self._probe(life))
        try:
            timeout = self.spec.start_timeout
            done, _ = await asyncio.wait((probing, *ends), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if probing in done:
                probing.result()
            elif not done:
                raise Failure(f"not ready within {timeout:g} s (`start_timeout`): {self.last_line}", waited=timeout)
        finally:
            probing.cancel()

    async def _probe(self, life: Life) -> None:
        """Returns once the probe answers and the port is the engine's own. Raises Failure if it is somebody else's."""
        pids: list[int] = []
        looked = 0.0
        while not (await self._asked(life) and (pids := await self._look(life))):
            if time.monotonic() - looked > LOOK:
                await self._look(life)
                looked = time.monotonic()
            await anyio.sleep(POLL)
        if not await asyncio.to_thread(listens, pids, life.port):
            raise Failure(f"port {life.port} answers, but it is not the engine that listens there")

    async def _asked(self, life: Life) -> bool:
        """Whether the probe says that it is ready; its processes are looked at while the answer takes its time."""
        asking = asyncio.ensure_future(ready(life.command.readiness, life.port, life.key))
        try:
            while not (await asyncio.wait((asking,), timeout=LOOK))[0]:
                await self._look(life)
            return asking.result()
        except Never as error:
            raise Failure(str(error)) from None
        finally:
            asking.cancel()

    async def _look(self, life: Life) -> list[int]:
        pids, self.last_line = await life.run.look()
        life.seat.runs(pids)
        return pids

    async def _settle(self, life: Life, ends: Sequence[asyncio.Future[Any]]) -> None:
        """Its GPUs' memory is measured, unless one of `ends` comes: a driver may hang."""
        settling = asyncio.ensure_future(life.seat.ready((await life.run.look())[0] if life.seat.gpus else ()))
        try:
            await asyncio.wait((settling, *ends), return_when=asyncio.FIRST_COMPLETED)
            if settling.done():
                settling.result()
        finally:
            settling.cancel()

    async def _stay_ready(self, life: Life, ends: Sequence[asyncio.Future[Any]]) -> None:
        """Until one of `ends` has come. Raises Failure when it serves no more."""
        target = self._offer(life)
        watching = asyncio.ensure_future(
            Liveness(self.model, target, life.command, life.port, life.key, lambda: self.spec.care).watch()
        )
        try:
            await asyncio.wait((watching, *ends), return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and not any(end.done() for end in ends):
                watching.result()
        except Wedged as error:
            raise Failure(str(error)) from None
        finally:
            watching.cancel()
            if not self._released:
                self._withdraw()

    async def _end(self, run: Run, ended: asyncio.Future[Exit], *, by_itself: bool) -> Exit:
        """Every process of the run is gone afterwards. If the first exited `by_itself` nothing else may be left."""
        if by_itself:
            await asyncio.wait((ended,), timeout=LEFTOVERS)
        if not ended.done() or self.state is State.DRAINING:
            self._enter(State.STOPPING)
            run.stop(self.spec.stop_grace)
            await self._hurried(ended)
            if not ended.done():
                run.stop(0)
        exit = await ended  # noqa: A001
        self.target = None
        if exit.left:
            self.error = f"the processes {exit.left} could not be ended"
        return exit

    async def _let_finish(self, ended: asyncio.Future[Exit]) -> None:
        """The requests in flight, for as long as they may take."""
        target = self.target
        if target is None or not target.in_flight or not self._drain:
            return
        idle = asyncio.Event()
        target.on_idle = idle.set
        waits = [asyncio.ensure_future(event.wait()) for event in (idle, self._drained)]
        with anyio.move_on_after(self._drain):
            await self._hurried(*waits, ended)
        for wait in waits:
            wait.cancel()
        target.on_idle = None

    async def _hurried(self, *futures: asyncio.Future[Any]) -> None:
        """Until one of them is done, or it is to be killed."""
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait((*futures, hurry), return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()

    def _offer(self, life: Life) -> Target:
        """The proxy may use it from here on."""
        target = self.target = life.target(f"{self.spec.name}#{self.replica}")
        self.error = self.findings = None
        self._enter(State.READY)
        self.since -= life.uptime
        self.served.set()
        self.model.add(target)
        return target

    def _withdraw(self) -> None:
        if self.target is not None and not self.target.removed:
            self.model.remove(self.target)

    async def _unless_unwanted(self, work: Coroutine[Any, Any, T]) -> T:
        """Raises Unwanted."""
        working = asyncio.ensure_future(work)
        unwanted = asyncio.ensure_future(self._unwanted.wait())
        try:
            await asyncio.wait((working, unwanted), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Unwanted
            return working.result()
        finally:
            working.cancel()
            unwanted.cancel()

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

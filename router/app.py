"""The one place where a router is put together: a Config in, a running router out."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio

from router import __version__, process
from router.catalog import Catalog, Group, Manner, Model
from router.config import Config, ConfigError, EngineSpec, GroupSpec, RemoteSpec, load
from router.console.client import SOCKET
from router.console.control import Refused, control_app
from router.console.metrics import Metrics
from router.console.public import Public
from router.console.requests_log import RequestsLog
from router.events import Event, Events
from router.fleet.facts import Facts
from router.fleet.files import Files
from router.fleet.fleet import Fleet
from router.fleet.inventory import Nvml, read_nvml
from router.fleet.kept import Terms
from router.fleet.library import Library
from router.fleet.local import Local
from router.fleet.plan import compare
from router.fleet.remote import Remotes
from router.fleet.rows import Info, Plan, Row
from router.fleet.states import State
from router.measures import Measures, Record
from router.proxy.client import Bounds
from router.proxy.keys import Keys
from router.proxy.proxy import Proxy
from router.proxy.server import BACKLOG, Server
from router.sockets import Lock, bracketed, listen, private
from router.takeover import SOCKET as TAKEOVER_SOCKET
from router.takeover import hand_over, take_over

CONTROL_DRAIN = 1.0
"""Seconds for the commands' last requests."""

log = logging.getLogger("router")


class Broken(Exception):
    """A fault of the router's own ended it, and every engine with it; `__cause__` is the fault."""


class Router:
    """A router that has not started: `run` starts it, and returns when everything has ended."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.events = Events()
        self.events.listen(_log)
        self.catalog = Catalog(map(_model, config.models), map(_group, config.groups))
        self.files = Files(config.state_dir)
        self._terms = Terms(config.orphan_grace)
        self._runtime = Local(
            self.files,
            config.file.parent,  # paths in the file are relative to it, also those that only the engine knows of
            self._terms,
            log_max_size=config.log_max_size,
            log_keep=config.log_keep,
        )
        self.fleet = Fleet(config, self.catalog, self._runtime, self.files, Nvml(), self.events)
        self.remotes = Remotes(self.catalog)
        self.requests_log = RequestsLog(
            self.files.state_dir / "requests.log", max_size=config.log_max_size, keep=config.log_keep
        )
        self.measures = Measures(self._listeners(config))
        self._library = Library(config)
        public = Public(self.catalog, Metrics(self.measures, self.catalog, self.rows), self)
        self.proxy = Proxy(self.catalog, Keys(config.keys), self.measures)
        self.bounds = Bounds(config)
        self.public = Server(public.app(), self.bounds, plane=self.proxy, drain=config.drain_timeout)
        self.address = ""
        self._tcp: socket.socket
        self._lock: Lock
        self._applying = asyncio.Lock()
        self._handed = False
        self._stop = anyio.Event()
        self._fault: Exception | None = None

    def rows(self) -> list[Row]:
        return [*self.fleet.rows(), *self.remotes.rows()]

    @property
    def guarded(self) -> bool:
        """Whether keys are declared."""
        return bool(self.config.keys)

    async def facts(self, name: str) -> Facts:
        """What is known of a model, by its name in the file."""
        return await self._library.facts(name)

    def start_model(self, name: str) -> bool:
        """What was terminated starts again. False: its engines are not started here."""
        return self.fleet.start_model(name)

    def stop_model(self, name: str) -> bool:
        """Its engines end, until they are started again. False: they are not started here."""
        return self.fleet.stop_model(name)

    def stop(self) -> None:
        """Asks for the end: no new connection, the requests in flight for `drain_timeout`, then every engine."""
        self._stop.set()

    def kill(self) -> None:
        """The same, and nothing is waited for."""
        self._stop.set()
        self.public.hurry()
        if not self._handed:
            self.fleet.kill()

    def end(self) -> None:
        """Asked once it stops, asked again it waits for nothing."""
        if self._stop.is_set():
            self.kill()
        else:
            self.stop()

    async def plan(self, file: Path) -> Plan:
        """What `apply` would do. Raises Refused: the file has faults."""
        return compare(self.config, await self._read(file))

    async def apply(self, file: Path) -> Plan:
        """What the changed file says, from now on. Returns when it has begun, before new engines are ready. Raises
        Refused, and nothing has changed."""
        async with self._applying:
            config = await self._read(file)
            plan = compare(self.config, config)
            if plan.refused:
                raise Refused("\n".join(plan.refused))
            if self._stop.is_set():
                raise Refused("the router is stopping")
            self._put_in_force(config)
            log.info("applied %s: %s", file, ", ".join(f"{step.action} {step.model}" for step in plan.steps))
            return plan

    async def reload(self) -> None:
        """`apply` of its own file, for who cannot be answered: what is wrong with it is logged."""
        try:
            await self.apply(self.config.file)
        except Refused as refused:
            log.error("%s is not applied, and nothing has changed:\n%s", self.config.file, refused)

    async def _read(self, file: Path) -> Config:
        try:
            return await asyncio.to_thread(load, file, read_nvml)
        except ConfigError as error:
            raise Refused(str(error)) from None

    def _put_in_force(self, config: Config) -> None:
        """One step for everybody who asks meanwhile: nothing waits in here."""
        self.catalog.replace(map(_model, config.models), map(_group, config.groups))
        self.proxy.keys = Keys(config.keys)
        self.bounds.set(config)
        self.public.set_drain(config.drain_timeout)
        self._terms.orphan_grace = config.orphan_grace
        self._runtime.log_max_size, self._runtime.log_keep = config.log_max_size, config.log_keep
        self._runtime.cwd = config.file.parent
        self.requests_log.max_size, self.requests_log.keep = config.log_max_size, config.log_keep
        self.measures.listeners = self._listeners(config)
        self.remotes.apply(config)
        self.fleet.apply(config)
        self._library.apply(config)
        self.config = config

    def _listeners(self, config: Config) -> tuple[Callable[[list[Record]], None], ...]:
        return (self.requests_log.add,) if config.log_access else ()

    async def hand_over(self, path: Path) -> None:
        """To the router that waits there: it gets the listening socket and the engines. What was begun ends here."""
        async with self._applying:
            if self._stop.is_set():
                return
            self._handed = await hand_over(path, self._tcp, self._lock, self.fleet.release)
            if self._handed:
                log.info("another router has taken over: requests in flight end here")
                self._lock.close(handed=True)  # else nobody could start should the other one die before this one ends
                self._stop.set()

    async def run(self, *, takeover: bool = False) -> None:
        """Returns when no process of any engine is left, or another router has them. With `takeover` it takes the place
        of the one that runs, if there is one. Raises CannotStart before anything was started, and Broken."""
        tcp = None
        if takeover:
            tcp, self._lock = await asyncio.to_thread(take_over, self.files, self._listen, self._stop.is_set)
        else:
            self._lock = Lock.take(self.files)
        try:
            self._tcp = tcp or self._listen()
            try:
                with private(self.config.state_dir / SOCKET) as unix:
                    self.address = f"http://{bracketed(self.config.host)}:{self._tcp.getsockname()[1]}"
                    self._lock.sign(self.address)
                    process.prepare()
                    await self._serve(unix)
            finally:
                self._tcp.close()
        finally:
            self._lock.close(handed=self._handed)

    def _listen(self, taken: socket.socket | None = None) -> socket.socket:
        """At the address of the file: where another router had the same, by its own socket. Raises CannotStart."""
        if taken is not None:
            host, port = taken.getsockname()[:2]
            if host == self.config.host and self.config.port in (0, port):
                return taken
            taken.close()
        return listen(self.config.host, self.config.port, BACKLOG)

    async def _serve(self, unix: socket.socket) -> None:
        app = control_app(self, Info(os.getpid(), self.address, __version__))
        control = Server(app, self.bounds, drain=CONTROL_DRAIN)
        self.remotes.apply(self.config)
        controlling = asyncio.ensure_future(self._part(control.serve([unix])))
        supervising = asyncio.ensure_future(self._part(self.fleet.run()))
        serving = asyncio.ensure_future(self._part(self.public.serve([self._tcp])))
        await self._stop.wait()
        if self._handed:
            control.should_exit = True  # its socket's path is the other router's
            self.public.retire()
        else:
            log.info("stopping: requests in flight first, then the engines")
        self.public.should_exit = True
        await serving
        self.measures.flush()
        self.fleet.stop()
        await supervising
        await self.requests_log.close()
        control.should_exit = True
        await controlling
        log.info("ended, and the engines go on" if self._handed else "stopped: no process of any engine is left")
        if self._fault is not None:
            raise Broken from self._fault

    async def _part(self, work: Coroutine[Any, Any, None]) -> None:
        """A fault in one part ends all of them, in the usual order."""
        try:
            await work
        except Exception as fault:  # `_serve` raises it when all have ended
            self._fault = self._fault or fault
            self.stop()


async def end_leftovers(state_dir: Path) -> int:
    """What a router that was killed has left in its state folder ends; how many engines that were. Raises CannotStart
    where a router runs."""
    files = Files(state_dir)
    lock = Lock.take(files)
    try:
        runtime = Local(files, state_dir, Terms(0), log_max_size=0, log_keep=0)
        found = await runtime.find()
        await asyncio.gather(*(each.end(asyncio.Event()) for each in found))
        await runtime.sweep(())
        for name in (SOCKET, TAKEOVER_SOCKET):
            (state_dir / name).unlink(missing_ok=True)
        return len(found)
    finally:
        lock.close(handed=False)


def _model(spec: EngineSpec | RemoteSpec) -> Model:
    return Model(
        spec.name,
        kind=spec.kind,
        engine=spec.engine if isinstance(spec, EngineSpec) else "remote",
        aliases=(*spec.aliases, *(spec.lora if isinstance(spec, EngineSpec) else ())),
        paths=spec.paths if isinstance(spec, EngineSpec) else None,
        limits=spec.limits,
        manner=Manner(edits=spec.edits, fallback=spec.fallback, wants=spec.wants, info=spec.info),
        created=int(time.time()),
    )


def _group(spec: GroupSpec) -> Group:
    return Group(
        spec.name,
        kind=spec.kind,
        members=spec.members,
        aliases=spec.aliases,
        manner=Manner(edits=spec.edits, fallback=spec.fallback, info=spec.info),
        created=int(time.time()),
    )


def _log(event: Event) -> None:
    level = logging.WARNING if event.state == State.FAILED else logging.INFO
    detail = f": {event.detail}" if event.detail else ""
    extra = {"model": event.model, "replica": event.replica, "state": event.state, "detail": event.detail}
    log.log(level, "%s#%d %s%s", event.model, event.replica, event.state, detail, extra=extra)

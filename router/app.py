"""The one place where a router is put together: a Config in, a running router out."""

import asyncio
import fcntl
import logging
import os
import socket
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import anyio

from router import __version__, process
from router.catalog import Catalog, Model
from router.config import Config, EngineSpec, RemoteSpec
from router.console.client import SOCKET
from router.console.control import control_app
from router.console.metrics import Metrics
from router.console.public import Public
from router.console.requests_log import RequestsLog
from router.events import Event, Events
from router.fleet.files import Files
from router.fleet.fleet import Fleet
from router.fleet.gpus import read_nvml
from router.fleet.local import Local
from router.fleet.remote import remote_row, remote_target, remotes
from router.fleet.rows import Info, Row
from router.fleet.states import State
from router.measures import Measures
from router.proxy.keys import Keys
from router.proxy.proxy import Proxy
from router.proxy.server import BACKLOG, Server

CONTROL_DRAIN = 1.0
"""Seconds for the commands' last requests."""

log = logging.getLogger("router")


class CannotStart(Exception):
    """The router cannot run; the message says why and what to do."""


class Broken(Exception):
    """A fault of the router's own ended it, and every engine with it; `__cause__` is the fault."""


class Router:
    """A router that has not started: `run` starts it, and returns when everything has ended."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.events = Events()
        self.events.listen(_log)
        self.catalog = Catalog(_model(spec) for spec in config.models)
        self.files = Files(config.state_dir)
        runtime = Local(
            self.files,
            config.file.parent,  # paths in the file are relative to it, also those that only the engine knows of
            orphan_grace=config.orphan_grace,
            log_max_size=config.log_max_size,
            log_keep=config.log_keep,
        )
        engines = any(isinstance(spec, EngineSpec) and spec.gpus.mode != "inherit" for spec in config.models)
        self.fleet = Fleet(config, self.catalog, runtime, read_nvml() if engines else [], self.events)
        self.requests_log = RequestsLog(
            self.files.state_dir / "requests.log", max_size=config.log_max_size, keep=config.log_keep
        )
        measures = self.measures = Measures([self.requests_log.add] if config.log_access else [])
        public = Public(self.catalog, Metrics(measures, self.catalog, self.rows))
        proxy = Proxy(self.catalog, Keys(config.keys), measures)
        self.public = Server(public.app(), config, plane=proxy, drain=config.drain_timeout)
        self.address = ""
        self._stop = anyio.Event()
        self._fault: Exception | None = None

    def rows(self) -> list[Row]:
        return [
            *self.fleet.rows(),
            *(remote_row(spec, self.catalog.resolve(spec.name)) for spec in remotes(self.config)),
        ]

    def stop(self) -> None:
        """Asks for the end: no new connection, the requests in flight for `drain_timeout`, then every engine."""
        self._stop.set()

    def kill(self) -> None:
        """The same, and nothing is waited for."""
        self._stop.set()
        self.public.hurry()
        self.fleet.kill()

    def end(self) -> None:
        """Asked once it stops, asked again it waits for nothing."""
        if self._stop.is_set():
            self.kill()
        else:
            self.stop()

    async def run(self) -> None:
        """Returns when no process of any engine is left. Raises CannotStart before anything was started, and Broken."""
        with _lock(self.files) as lock, _listen(self.config) as tcp, _control(self.config.state_dir / SOCKET) as unix:
            self.address = f"http://{_bracketed(self.config.host)}:{tcp.getsockname()[1]}"
            _sign(lock, self.files, f"{os.getpid()} {self.address}\n")
            for spec in remotes(self.config):
                self.catalog.resolve(spec.name).add(remote_target(spec))
            process.prepare()
            await self._serve(tcp, unix)

    async def _serve(self, tcp: socket.socket, unix: socket.socket) -> None:
        app = control_app(self, Info(os.getpid(), self.address, __version__))
        control = Server(app, self.config, drain=CONTROL_DRAIN)
        controlling = asyncio.ensure_future(self._part(control.serve([unix])))
        supervising = asyncio.ensure_future(self._part(self.fleet.run()))
        serving = asyncio.ensure_future(self._part(self.public.serve([tcp])))
        await self._stop.wait()
        log.info("stopping: requests in flight first, then the engines")
        self.public.should_exit = True
        await serving
        self.measures.flush()
        self.fleet.stop()
        await supervising
        await self.requests_log.close()
        control.should_exit = True
        await controlling
        log.info("stopped: no process of any engine is left")
        if self._fault is not None:
            raise Broken from self._fault

    async def _part(self, work: Coroutine[Any, Any, None]) -> None:
        """A fault in one part ends all of them, in the usual order."""
        try:
            await work
        except Exception as fault:  # `_serve` raises it when all have ended
            self._fault = self._fault or fault
            self.stop()


@contextmanager
def _lock(files: Files) -> Iterator[IO[str]]:
    """Held as long as the router runs; the system lets go of it however it ends."""
    try:
        files.make()
        lock = os.fdopen(os.open(files.state_dir / "router.lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+")
    except OSError as error:
        raise _unusable(files.state_dir, error) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid, _, address = lock.read().strip().partition(" ")
            who = f"pid {pid} at {address}" if pid else "it is just starting"
            remedy = "end it with `router down`, or set another `state_dir`"
            raise CannotStart(f"a router runs already with {files.state_dir} ({who}); {remedy}") from None
        except OSError as error:  # a network's file system may have no locks
            raise _unusable(files.state_dir, error) from None
        lock.truncate(0)
        yield lock
        lock.truncate(0)


def _sign(lock: IO[str], files: Files, text: str) -> None:
    """Tells who holds the lock."""
    try:
        lock.write(text)
        lock.flush()
    except OSError as error:  # the disk is full
        raise _unusable(files.state_dir, error) from None


def _listen(config: Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(BACKLOG)  # not before this is the port ours
    except OSError as error:
        listener.close()
        where = f"{_bracketed(config.host)}:{config.port}"
        raise CannotStart(f"cannot listen on {where}: {error.strerror}; free it, or change `listen`") from None
    return listener


@contextmanager
def _control(path: Path) -> Iterator[socket.socket]:
    """The socket of the commands, for this user only. What was at `path` is an earlier router's: the lock is ours."""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            raise _unusable(path.parent, error) from None
        listener.listen()  # nobody can connect before this
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _unusable(state_dir: Path, error: OSError) -> CannotStart:
    return CannotStart(f"cannot keep its state in {state_dir}: {error.strerror}; set another `state_dir`")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _model(spec: EngineSpec | RemoteSpec) -> Model:
    return Model(
        spec.name,
        kind=spec.kind,
        engine=spec.engine if isinstance(spec, EngineSpec) else "remote",
        aliases=spec.aliases,
        paths=spec.paths if isinstance(spec, EngineSpec) else None,
        limits=spec.limits,
        created=int(time.time()),
    )


def _log(event: Event) -> None:
    level = logging.WARNING if event.state == State.FAILED else logging.INFO
    log.log(level, "%s#%d %s%s", event.model, event.replica, event.state, f": {event.detail}" if event.detail else "")

"""The one place where a router is put together: a Config in, a running router out."""

import asyncio
import fcntl
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import anyio
import uvicorn

from router import __version__
from router.catalog import Catalog, Model
from router.config import Config, EngineSpec, RemoteSpec
from router.console.client import SOCKET
from router.console.control import control_app
from router.console.public import Public
from router.events import Event, Events
from router.fleet.files import Files
from router.fleet.fleet import Fleet
from router.fleet.gpus import read_nvml
from router.fleet.local import Local
from router.fleet.remote import remote_row, remote_target, remotes
from router.fleet.rows import Info, Row
from router.fleet.states import State
from router.proxy.asgi import App
from router.proxy.keys import Keys
from router.proxy.proxy import Proxy

log = logging.getLogger("router")


class CannotStart(Exception):
    """The router cannot run; the message says why and what to do."""


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
            orphan_grace=config.orphan_grace,
            log_max_size=config.log_max_size,
            log_keep=config.log_keep,
        )
        engines = any(isinstance(spec, EngineSpec) and spec.gpus.mode != "inherit" for spec in config.models)
        self.fleet = Fleet(config, self.catalog, runtime, read_nvml() if engines else [], self.events)
        self.public = Server(self._application(), drain=config.drain_timeout)
        self.address = ""
        self._stop = anyio.Event()

    def _application(self) -> App:
        keys = Keys(self.config.keys)
        return Proxy(self.catalog, keys, self.config, Public(self.catalog).app())

    def rows(self) -> list[Row]:
        return [
            *self.fleet.rows(),
            *(remote_row(spec, self.catalog.resolve(spec.name)) for spec in remotes(self.config)),
        ]

    def stop(self) -> None:
        """Asks for the end: no new connection, the requests in flight for `drain_timeout`, then every engine. Asked
        again, nothing is waited for."""
        if self._stop.is_set():
            self.public.force_exit = True
            self.fleet.kill()
        self._stop.set()

    async def run(self) -> None:
        """Raises CannotStart before anything was started. Returns when no process of any engine is left."""
        self.files.make()
        with _lock(self.config.state_dir / "router.lock") as lock, _listen(self.config) as tcp:
            self.address = f"http://{_bracketed(self.config.host)}:{tcp.getsockname()[1]}"
            lock.write(f"{os.getpid()} {self.address}\n")
            lock.flush()
            for spec in remotes(self.config):
                self.catalog.resolve(spec.name).add(remote_target(spec))
            await self._serve(tcp)

    async def _serve(self, tcp: socket.socket) -> None:
        info = Info(os.getpid(), self.address, __version__)
        control = Server(control_app(self, info, self.stop), drain=1, uds=str(self.config.state_dir / SOCKET))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        async with anyio.create_task_group() as controlling:
            controlling.start_soon(control.serve)
            async with anyio.create_task_group() as supervising:
                supervising.start_soon(self.fleet.run)
                async with anyio.create_task_group() as serving:
                    serving.start_soon(self.public.serve, [tcp])
                    await self._stop.wait()
                    self.public.should_exit = True
                self.fleet.stop()
            control.should_exit = True
        (self.config.state_dir / SOCKET).unlink(missing_ok=True)


class Server(uvicorn.Server):
    """uvicorn, as a part of a program that minds its signals itself."""

    def __init__(self, app: App, *, drain: float, uds: str | None = None) -> None:
        settings = uvicorn.Config(
            app,
            uds=uds,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=2048,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, math.ceil(drain)),
        )
        super().__init__(settings)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@contextmanager
def _lock(file: Path) -> Iterator[IO[str]]:
    """Held as long as the router runs; the system lets go of it however it ends."""
    with file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid, _, address = lock.read().strip().partition(" ")
            who = f"pid {pid} at {address}" if pid else "it is just starting"
            remedy = "end it with `router down`, or set another `state_dir`"
            raise CannotStart(f"a router runs already with {file.parent} ({who}); {remedy}") from None
        lock.truncate(0)
        yield lock
        lock.truncate(0)


def _listen(config: Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        where = f"{_bracketed(config.host)}:{config.port}"
        raise CannotStart(f"cannot listen on {where}: {error.strerror}; free it, or change `listen`") from None
    return listener


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

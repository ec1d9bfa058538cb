"""All engines of one router."""

import asyncio
import time
from collections.abc import Sequence

from router.catalog import Catalog
from router.config import Config, EngineSpec
from router.events import Events
from router.fleet.engine import Engine, Surroundings
from router.fleet.gpus import Gpu, place
from router.fleet.ports import Ports
from router.fleet.rows import Row
from router.fleet.runtime import Runtime
from router.fleet.states import State


class Fleet:
    """Starts, keeps and ends the engines of `config`, and tells the catalogue which replicas are ready."""

    def __init__(self, config: Config, catalog: Catalog, runtime: Runtime, gpus: Sequence[Gpu], events: Events) -> None:
        specs = [spec for spec in config.models if isinstance(spec, EngineSpec)]
        placed = place(specs, gpus)
        self._runtime = runtime
        self._events = events
        self._hurry = asyncio.Event()
        around = Surroundings(runtime, Ports(), config.secrets, self._changed)
        self.engines = [
            Engine(spec, replica, placed[spec.name, replica], catalog.resolve(spec.name), around)
            for spec in specs
            for replica in range(spec.replicas)
        ]

    async def run(self) -> None:
        """Until `stop`, and then until no process of any engine is left. A fault of our own in one engine's task ends
        the others in the same way, and is raised then."""
        grace = max((engine.spec.stop_grace for engine in self.engines), default=0.0)
        await self._runtime.clear(grace, self._hurry)
        faults = [fault for fault in await asyncio.gather(*map(self._keep, self.engines)) if fault is not None]
        await self._runtime.clear(grace, self._hurry)
        if faults:
            raise faults[0]

    async def _keep(self, engine: Engine) -> Exception | None:
        try:
            await engine.run()
        except Exception as fault:  # `run` raises it when the others have ended
            self.stop()
            return fault
        return None

    def stop(self) -> None:
        for engine in self.engines:
            engine.stop()

    def kill(self) -> None:
        """After `stop`: nothing is waited for any more."""
        self._hurry.set()
        for engine in self.engines:
            engine.kill()

    def rows(self) -> list[Row]:
        return [_row(engine) for engine in self.engines]

    def _changed(self, engine: Engine, detail: str) -> None:
        engine.model.outlook = _outlook(engine)
        self._events.emit(engine.spec.name, engine.replica, engine.state, detail)


def _outlook(engine: Engine) -> str:
    """For clients, and so without the engine's own words, which may hold anything."""
    if engine.state is State.FAILED:
        return "its engine failed and is started again; `router ps` says why"
    return f"its engine is {engine.state}"


def _row(engine: Engine) -> Row:
    age = time.monotonic() - engine.since
    return Row(
        model=engine.spec.name,
        replica=engine.replica,
        engine=engine.spec.engine,
        state=engine.state,
        pid=engine.pid,
        address=None if engine.port is None else f"127.0.0.1:{engine.port}",
        gpus=None if engine.gpus is None else list(engine.gpus),
        uptime_s=round(age, 1) if engine.state is State.READY else None,
        restarts=engine.restarts,
        in_flight=0 if engine.target is None else engine.target.in_flight,
        error=engine.error,
        state_s=round(age, 1),
        last_line=engine.last_line,
    )

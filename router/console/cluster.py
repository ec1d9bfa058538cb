"""What Xinference's clients ask of a cluster besides its models. This one has a single node."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router import __version__
from router.catalog import Catalog
from router.console.house import Engines
from router.console.records import MODEL_TYPES, Record, Records
from router.errors import InvalidRequest, NotFound, NotSupported
from router.fleet.inventory import Gpu, read_nvml
from router.fleet.rows import Row

ADDRESS = "127.0.0.1"
"""Of the node; where its engines listen is nobody's business."""
PATIENCE = 2.0
"""Seconds that somebody who asks waits for a GPU driver."""
_STATUS = {
    "stopped": ("TERMINATED", "stopped"),
    "starting": ("LOADING", "loading"),
    "ready": ("READY", "ready"),
    "draining": ("TERMINATING", "stopping"),
    "stopping": ("TERMINATING", "stopping"),
    "failed": ("ERROR", "error"),
}
"""An engine's state in Xinference's words, for people and for programs."""
_PROGRESS = {"READY": 1.0, "LOADING": 0.5}


class Cluster:
    """Handlers over one catalogue and its engines. `gpus` may block for as long as a driver does."""

    def __init__(
        self, catalog: Catalog, engines: Engines, records: Records, gpus: Callable[[], Sequence[Gpu]] = read_nvml
    ) -> None:
        self._catalog, self._engines, self._records, self._gpus = catalog, engines, records, gpus
        self._looking: asyncio.Task[Sequence[Gpu]] | None = None
        self._since = time.time()

    async def auth(self, _request: Request) -> Response:
        """Asked without a key: a client that is told of none sends none."""
        return JSONResponse({"auth": self._engines.guarded})

    async def version(self, _request: Request) -> Response:
        return JSONResponse({"version": __version__, "full-revisionid": None})

    async def status(self, _request: Request) -> Response:
        gpus = await self._look()
        status = {"cpu": _cpu(), **{f"gpu-{gpu.index}": _gpu(gpu) for gpu in gpus}}
        worker = {"update_time": time.time(), "failure_remaining_count": 0, "status": status}
        return JSONResponse({"uptime": int(time.time() - self._since), "workers": {ADDRESS: worker}})

    async def info(self, request: Request) -> Response:
        gpus = await self._look()
        total = sum(gpu.total for gpu in gpus)
        supervisor: Record = {"node_type": "Supervisor", "gpu_count": 0, "gpu_vram_total": 0}
        worker: Record = {
            "node_type": "Worker",
            "gpu_count": len(gpus),
            "gpu_vram_total": f"{total >> 20}MiB" if total else 0,
        }
        if request.query_params.get("detailed", "").lower() == "true":
            supervisor |= {**_machine(), "gpu_vram_available": 0, "gpu_utilization": None}
            worker |= {**_machine(), "gpu_vram_available": sum(gpu.free for gpu in gpus), "gpu_utilization": None}
        return JSONResponse([{**each, "ip_address": ADDRESS} for each in (supervisor, worker)])

    async def registrations(self, request: Request) -> Response:
        kind = _known(request.path_params["type"])
        found = [each for each in await self._declared() if each["model_type"] == kind]
        if request.query_params.get("detailed", "").lower() != "true":
            found = [{"model_name": each["model_name"], "is_builtin": False} for each in found]
        return JSONResponse(found)

    async def registration(self, request: Request) -> Response:
        kind, name = _known(request.path_params["type"]), request.path_params["name"]
        found = await self._records.of(name)
        if found["model_type"] != kind:
            raise NotFound(f"'{name}' is of the type {found['model_type']}, not {kind}")
        return JSONResponse({**found, "is_builtin": False})

    async def instances(self, request: Request) -> Response:
        wanted = {request.query_params.get("model_uid"), request.query_params.get("model_name")} - {None, ""}
        found = [each for each in await self._declared() if wanted <= {each["id"]}]
        return JSONResponse([self._instance(each) for each in found])

    async def replicas(self, request: Request) -> Response:
        return JSONResponse([_replica(row) for row in self._rows(request)])

    async def progress(self, request: Request) -> Response:
        """Half of a start is all that is known of one that is under way."""
        states = [_STATUS[row.state][0] for row in self._rows(request)]
        done = sum(_PROGRESS.get(state, 0.0) for state in states) / max(1, len(states))
        stage = "ready" if done == 1 else "error" if "ERROR" in states else "loading" if done else "pending"
        return JSONResponse({"progress": done, "stage": stage, "download_files": [], "replicas": []})

    async def events(self, request: Request) -> Response:
        """Of each replica the last: what it is since when."""
        return JSONResponse([_event(row) for row in self._rows(request)])

    async def abort(self, _request: Request) -> Response:
        raise NotSupported("close the connection of a request to abort it: that ends its work within a second")

    async def cancel(self, _request: Request) -> Response:
        raise NotSupported("DELETE /v1/models/{model_uid} ends a model that starts, too")

    async def _look(self) -> Sequence[Gpu]:
        """The GPUs; none while the driver does not answer. One look at a time: a driver that hangs takes one of the
        loop's few threads, however many ask."""
        looking = self._looking
        if looking is None or looking.done():
            looking = self._looking = asyncio.ensure_future(asyncio.to_thread(self._gpus))
        await asyncio.wait((looking,), timeout=PATIENCE)
        return looking.result() if looking.done() else ()

    async def _declared(self) -> list[Record]:
        """Without aliases."""
        return [each for each in await self._records.all() if each["id"] == each["root"]]

    def _rows(self, request: Request) -> list[Row]:
        """Raises ModelNotFound."""
        entry = self._catalog.entry(request.path_params["name"])
        return [row for row in self._engines.rows() if row.model == entry.name]

    def _instance(self, found: Record) -> Record:
        rows = [row for row in self._engines.rows() if row.model == found["id"]]
        return {
            "model_name": found["model_name"],
            "model_uid": found["id"],
            "model_version": None,
            "model_ability": found["model_ability"],
            "replica": found["replica"],
            "status": "READY" if found["ready"] else next((_STATUS[row.state][0] for row in rows), "CREATING"),
            "instance_created_ts": found["created"],
            "n_worker": 1,
            "replica_statuses": [_replica(row) for row in rows],
        }


def _known(kind: str) -> str:
    found = next((each for each in MODEL_TYPES if each.lower() == kind.lower()), None)
    if found is None:
        raise InvalidRequest(f"'{kind[:100]}' is no type of models; there are {', '.join(MODEL_TYPES)}")
    return found


def _replica(row: Row) -> Record:
    status, state = _STATUS[row.state]
    return {
        "replica_id": row.replica,
        "replica_model_uid": f"{row.model}-{row.replica}",
        "worker_address": ADDRESS,
        "status": status,
        "model_state": state,
        "created_ts": int(time.time() - row.state_s),
        "error_message": _why(row),
    }


def _event(row: Row) -> Record:
    why = _why(row)
    return {
        "event_type": "ERROR" if row.state == "failed" else "INFO",
        "event_ts": int(time.time() - row.state_s),
        "event_content": f"replica {row.replica} is {row.state}" + (f": {why}" if why else ""),
    }


def _why(row: Row) -> str | None:
    """A diagnosis' cause, and none of the engine's own words, which may hold anything."""
    if row.state != "failed":
        return None
    return row.diagnosis.cause if row.diagnosis else "its engine failed; `router ps` says more"


def _cpu() -> Record:
    memory = psutil.virtual_memory()
    return {
        "usage": psutil.cpu_percent() / 100,
        "total": psutil.cpu_count(),
        "memory_used": memory.used,
        "memory_available": memory.available,
        "memory_total": memory.total,
    }


def _machine() -> Record:
    cpu: dict[str, Any] = _cpu()
    return {
        "cpu_available": cpu["total"] * (1 - cpu["usage"]),
        "cpu_count": cpu["total"],
        "mem_used": cpu["memory_used"],
        "mem_available": cpu["memory_available"],
        "mem_total": cpu["memory_total"],
    }


def _gpu(gpu: Gpu) -> Record:
    used = gpu.total - gpu.free
    return {
        "name": gpu.name,
        "mem_total": gpu.total,
        "mem_free": gpu.free,
        "mem_used": used,
        "mem_usage": used / gpu.total if gpu.total else 0.0,
        "gpu_util": None,
    }

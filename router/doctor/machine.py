"""The machine: ports, disks, memory, limits and GPUs."""

import errno
import os
import resource
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from router.config import Config, EngineSpec
from router.doctor.check import Check, fault, ok, size, warning
from router.fleet.diagnosis.system import SHM, listener
from router.fleet.inventory import Gpu
from router.fleet.rows import Info

LEAST_STATE, LITTLE_STATE = 64 * 2**20, 2**30
"""Bytes for logs and sockets: below the first nothing can be kept, below the second it may end soon."""
SHM_OF_SEVERAL_GPUS = 2**30
LITTLE_MEMORY = 2**30
FEW_FILES = 4096
"""Descriptors: a request through the router takes two, and an engine of its own more."""
LITTLE_GPU = 0.1
"""Share of a GPU's memory that has to be free for an engine to start."""


def check_machine(config: Config, gpus: Sequence[Gpu], running: Info | None) -> Iterator[Check]:
    """`gpus` are those of this machine; `running` is the router of this file, if it runs."""
    engines = [model for model in config.models if isinstance(model, EngineSpec)]
    yield check_listen(config.host, config.port, running)
    yield check_state(config.state_dir)
    yield check_files()
    yield check_memory(running)
    if any(spec.engine == "vllm" for spec in engines):
        yield check_shm(several=any(_gpus_of(spec) > 1 for spec in engines if spec.engine == "vllm"))
    if any(spec.gpus.mode in ("count", "ids") for spec in engines):
        yield from check_gpus(gpus, running)


def check_listen(host: str, port: int, running: Info | None) -> Check:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if running is not None and urlsplit(running.address).port == (port or urlsplit(running.address).port):
        return ok(f"listen: {where} is held by the router that runs (pid {running.pid})")
    if port == 0:
        return ok(f"listen: {where} takes a free port")
    error = _refusal(host, port)
    if error is None:
        return ok(f"listen: {where} is free")
    if error.errno == errno.EADDRINUSE:
        return fault(f"listen: {where} is taken by {listener(port)}", "end that, or change `listen`")
    if error.errno == errno.EACCES:
        return fault(f"listen: {where} is for the system alone", "take a port from 1024 on, or start it as root")
    return fault(f"listen: {where}: {error.strerror or error}", "name an address of this machine in `listen`")


def _refusal(host: str, port: int) -> OSError | None:
    """Why nobody can listen there, as the router itself would."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error
    return None


def check_state(folder: Path) -> Check:
    place = next(each for each in (folder, *folder.parents) if each.is_dir())
    remedy = "name another folder with `state_dir`"
    if not os.access(place, os.W_OK | os.X_OK):
        return fault(f"state_dir: {place} cannot be written", remedy)
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    what = f"state_dir: {folder} has {size(free)} left"
    if free < LEAST_STATE:
        return fault(what, f"make room, or {remedy}")
    return ok(what) if free >= LITTLE_STATE else warning(what, f"make room for the engines' logs, or {remedy}")


def check_files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    what = f"open files: {soft} at a time" if soft != resource.RLIM_INFINITY else "open files: as many as one likes"
    if soft == resource.RLIM_INFINITY or soft >= FEW_FILES:
        return ok(what)
    most = "65536" if hard == resource.RLIM_INFINITY else min(hard, 65536)
    return warning(what, f"raise it before the router starts: `ulimit -n {most}`, or LimitNOFILE in its systemd unit")


def check_memory(running: Info | None) -> Check:
    memory = psutil.virtual_memory()
    what = f"memory: {size(memory.available)} of {size(memory.total)} are available"
    if running is not None or memory.available >= LITTLE_MEMORY:
        return ok(what)
    return warning(what, "an engine takes a gigabyte and more besides its model: end something")


def check_shm(*, several: bool) -> Check:
    """vLLM's processes on `several` GPUs hand each other data there."""
    try:
        found = os.statvfs(SHM)
    except OSError as error:
        return warning(f"{SHM}: {error.strerror}", "vLLM wants it: mount a tmpfs there")
    total = found.f_blocks * found.f_frsize
    what = f"{SHM}: {size(total)}"
    if not several or total >= SHM_OF_SEVERAL_GPUS:
        return ok(what)
    remedy = f"enlarge it for vLLM on several GPUs: `mount -o remount,size=16G {SHM}`, in a container `--shm-size 16g`"
    return warning(what, remedy)


def check_gpus(gpus: Sequence[Gpu], running: Info | None) -> Iterator[Check]:
    if not gpus:
        yield fault(
            "GPUs: the NVIDIA driver shows none", "see whether `nvidia-smi` works here; in a container `--gpus all`"
        )
    for gpu in gpus:
        what = f"GPU {gpu.index} ({gpu.name}): {size(gpu.free)} of {size(gpu.total)} are free"
        busy = running is None and gpu.free < LITTLE_GPU * gpu.total
        yield warning(what, "end what else runs there, `nvidia-smi` shows it") if busy else ok(what)


def _gpus_of(spec: EngineSpec) -> int:
    """How many GPUs one replica has."""
    if spec.gpus.mode == "count":
        return spec.gpus.count
    share, rest = divmod(len(spec.gpus.ids), spec.replicas)
    return len(spec.gpus.ids) if rest else share

"""The GPUs of this machine, and who holds their memory."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

import msgspec


class GpuProcess(msgspec.Struct, frozen=True):
    """A process that holds memory of a GPU: bytes, None where the driver does not tell. `name` and `user` are empty
    where the system does not tell, as for the pids of the host that a driver shows inside a container."""

    pid: int
    used: int | None
    name: str = ""
    user: str = ""


class Gpu(msgspec.Struct, frozen=True):
    """One GPU, or one instance of a GPU that is divided by MIG; memory in bytes, 0 where the driver does not tell (it
    is the machine's own). `processes` is None where the driver does not list them."""

    index: int
    uuid: str
    name: str
    total: int
    free: int
    processes: tuple[GpuProcess, ...] | None = ()

    def used_by(self, pids: Iterable[int]) -> int:
        """Bytes that these processes hold, as far as the driver tells."""
        wanted = set(pids)
        return sum(process.used or 0 for process in self.processes or () if process.pid in wanted)


class Inventory(Protocol):
    """Where the GPUs are read from."""

    def read(self) -> list[Gpu]:
        """What works, by index; nothing without a driver. It may block for as long as the driver does."""


class Nvml:
    """NVIDIA's GPUs, in the order of PCI_BUS_ID.

    A GPU that does not answer is left out. One that is divided by MIG is replaced by its instances, which are counted
    after the last GPU: CUDA takes them by UUID alone. `nvml` is the module `pynvml`, or one like it.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml

    def read(self) -> list[Gpu]:
        nvml = self._nvml or _pynvml()
        try:
            # Each time anew: a session does not survive a driver that is loaded again.
            nvml.nvmlInit()
        except nvml.NVMLError:
            return []
        try:
            return sorted(_gpus(nvml), key=lambda gpu: gpu.index)
        finally:
            with suppress(nvml.NVMLError):
                nvml.nvmlShutdown()


def read_nvml() -> list[Gpu]:
    """NVIDIA's GPUs now; none where there is no driver, and none that does not answer."""
    return Nvml().read()


def _pynvml() -> Any:
    import pynvml  # noqa: PLC0415 - only who asks for GPUs pays for it

    return pynvml


def _gpus(nvml: Any) -> Iterator[Gpu]:
    boards = 0
    with suppress(nvml.NVMLError):
        boards = nvml.nvmlDeviceGetCount()
    beyond = boards
    for index in range(boards):
        with suppress(nvml.NVMLError):  # it has fallen off the bus
            board = nvml.nvmlDeviceGetHandleByIndex(index)
            if not _divided(nvml, board):
                yield _read(nvml, board, index)
                continue
            for instance in _instances(nvml, board):
                with suppress(nvml.NVMLError):
                    yield _read(nvml, instance, beyond)
                beyond += 1


def _divided(nvml: Any, board: Any) -> bool:
    with suppress(nvml.NVMLError):  # most GPUs cannot be
        return bool(nvml.nvmlDeviceGetMigMode(board)[0] == nvml.NVML_DEVICE_MIG_ENABLE)
    return False


def _instances(nvml: Any, board: Any) -> Iterator[Any]:
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(board)):
        with suppress(nvml.NVMLError):  # numbers may be left out
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(board, number)


def _read(nvml: Any, handle: Any, index: int) -> Gpu:
    total = free = 0
    with suppress(nvml.NVMLError_NotSupported):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = memory.total, memory.free
    name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
    return Gpu(index, uuid, name, total, free, _processes(nvml, handle))


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...] | None:
    """By pid. None unless the list of those that compute was given: one that is short would be taken for an end."""
    try:
        found = _used(nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except nvml.NVMLError:
        return None
    for others in (nvml.nvmlDeviceGetMPSComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        with suppress(nvml.NVMLError):
            # One that computes and draws stands in both lists, each time with all that it holds.
            found = {**_used(others(handle)), **found}
    return tuple(GpuProcess(pid, used, *_who(pid)) for pid, used in sorted(found.items()))


def _used(listed: Iterable[Any]) -> Mapping[int, int | None]:
    return {process.pid: process.usedGpuMemory for process in listed}


def _who(pid: int) -> tuple[str, str]:
    import psutil  # noqa: PLC0415 - as above

    name = user = ""
    with suppress(psutil.Error, OSError, ValueError):
        process = psutil.Process(pid)
        name = process.name()
        user = process.username()
    return name, user

"""What NVML says, through a module that answers as pynvml does, with pynvml's own errors, constants and structures."""

# ruff: noqa: N802 - the names are pynvml's

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil
import pynvml
import pytest

from router.fleet.inventory import Gpu, GpuProcess, Nvml, read_nvml

BOARD = 2**34
ME = os.getpid()
NOBODY = 2**31 - 2
"""More than any pid, so that it belongs to nobody."""


def error(code: int) -> Callable[..., Any]:
    def raises(*_: object) -> Any:
        raise pynvml.NVMLError(code)

    return raises


def memory(total: int, free: int) -> Any:
    return pynvml.c_nvmlMemory_t(total=total, free=free, used=total - free)


def process(pid: int, used: int | None) -> Any:
    """As pynvml makes it of the driver's structure."""
    found = pynvml.nvmlStructToFriendlyObject(pynvml.c_nvmlProcessInfo_v3_t(pid=pid, usedGpuMemory=used or 0))
    found.usedGpuMemory = used
    return found


class FakeNvml:
    """Boards by index; a board is the MIG instances that it is divided into, or itself alone."""

    NVMLError = pynvml.NVMLError
    NVMLError_NotSupported = pynvml.NVMLError_NotSupported
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE

    def __init__(self, *boards: str, instances: dict[str, list[str | None]] | None = None) -> None:
        self.boards, self.instances = boards, instances or {}
        self.sessions = 0
        self.computing: dict[str, list[Any]] = {}
        self.drawing: dict[str, list[Any]] = {}
        self.nvmlDeviceGetMPSComputeRunningProcesses = error(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def nvmlInit(self) -> None:
        self.sessions += 1

    def nvmlShutdown(self) -> None:
        self.sessions -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return self.boards[index]

    def nvmlDeviceGetMigMode(self, board: str) -> list[int]:
        if board not in self.instances:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [pynvml.NVML_DEVICE_MIG_ENABLE] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, board: str) -> int:
        return len(self.instances[board])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, board: str, number: int) -> str:
        found = self.instances[board][number]
        if found is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found

    def nvmlDeviceGetMemoryInfo(self, _handle: str) -> Any:
        return memory(BOARD, BOARD // 2)

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, _handle: str) -> str:
        return "NVIDIA H200"

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return self.computing.get(handle, [])

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: str) -> list[Any]:
        return self.drawing.get(handle, [])


def test_what_stands_in_for_pynvml_has_nothing_that_pynvml_lacks() -> None:
    names = [name for name in {*dir(FakeNvml), *vars(FakeNvml())} if name.startswith(("nvml", "NVML"))]
    assert len(names) > 10
    assert [name for name in names if not hasattr(pynvml, name)] == []


def test_gpus_have_an_index_a_uuid_a_name_and_memory() -> None:
    nvml = FakeNvml("a", "b")
    assert Nvml(nvml).read() == [
        Gpu(0, "GPU-a", "NVIDIA H200", BOARD, BOARD // 2),
        Gpu(1, "GPU-b", "NVIDIA H200", BOARD, BOARD // 2),
    ]
    assert nvml.sessions == 0


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_UNKNOWN]
)
def test_without_a_driver_there_are_no_gpus(code: int) -> None:
    nvml = FakeNvml("a")
    nvml.nvmlInit = error(code)  # type: ignore[method-assign]
    assert Nvml(nvml).read() == []


def test_a_driver_that_cannot_count_has_no_gpus_and_its_session_is_closed() -> None:
    nvml = FakeNvml("a")
    nvml.nvmlDeviceGetCount = error(pynvml.NVML_ERROR_UNKNOWN)  # type: ignore[method-assign]
    assert Nvml(nvml).read() == []
    assert nvml.sessions == 0


@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo"]
)
def test_a_gpu_that_does_not_answer_is_left_out_and_the_others_keep_their_index(call: str) -> None:
    nvml = FakeNvml("lost", "b")
    whole = getattr(nvml, call)

    def partly(asked: int | str) -> Any:
        return error(pynvml.NVML_ERROR_GPU_IS_LOST)() if asked in (0, "lost") else whole(asked)

    setattr(nvml, call, partly)
    assert [gpu.index for gpu in Nvml(nvml).read()] == [1]
    assert nvml.sessions == 0


def test_memory_that_the_machine_shares_is_unknown() -> None:
    nvml = FakeNvml("a")
    nvml.nvmlDeviceGetMemoryInfo = error(pynvml.NVML_ERROR_NOT_SUPPORTED)  # type: ignore[method-assign]
    assert Nvml(nvml).read() == [Gpu(0, "GPU-a", "NVIDIA H200", 0, 0)]


def test_a_divided_gpu_is_its_instances_which_are_counted_after_the_last_gpu() -> None:
    nvml = FakeNvml("a", "b", "c", instances={"b": ["x", None, "y"]})
    assert [(gpu.index, gpu.uuid) for gpu in Nvml(nvml).read()] == [
        (0, "GPU-a"),
        (2, "GPU-c"),
        (3, "GPU-x"),
        (4, "GPU-y"),
    ]


def test_processes_have_a_name_and_a_user() -> None:
    nvml = FakeNvml("a")
    nvml.computing["a"] = [process(ME, 5)]
    (gpu,) = Nvml(nvml).read()
    assert gpu.processes is not None
    (mine,) = gpu.processes
    assert (mine.pid, mine.used, mine.user) == (ME, 5, psutil.Process().username())
    assert mine.name == psutil.Process().name() != ""


def test_a_process_that_is_not_of_this_machine_has_neither() -> None:
    nvml = FakeNvml("a")
    nvml.computing["a"] = [process(NOBODY, 5)]
    assert Nvml(nvml).read()[0].processes == (GpuProcess(NOBODY, 5),)


def test_one_that_has_just_ended_has_neither() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    nvml = FakeNvml("a")
    nvml.computing["a"] = [process(ended.pid, 5)]
    assert Nvml(nvml).read()[0].processes == (GpuProcess(ended.pid, 5),)


def test_the_memory_of_a_process_may_be_unknown() -> None:
    nvml = FakeNvml("a")
    nvml.computing["a"] = [process(NOBODY, None)]
    (gpu,) = Nvml(nvml).read()
    assert gpu.processes == (GpuProcess(NOBODY, None),)
    assert gpu.used_by([NOBODY]) == 0


def test_one_that_computes_and_draws_is_counted_once() -> None:
    nvml = FakeNvml("a")
    nvml.computing["a"] = [process(NOBODY, 5)]
    nvml.drawing["a"] = [process(NOBODY, 5), process(NOBODY - 1, 7)]
    (gpu,) = Nvml(nvml).read()
    assert gpu.processes == (GpuProcess(NOBODY - 1, 7), GpuProcess(NOBODY, 5))
    assert gpu.used_by([NOBODY, NOBODY - 1]) == 12
    assert gpu.used_by([1]) == 0


def test_a_list_of_processes_that_is_not_given_is_none_rather_than_empty() -> None:
    nvml = FakeNvml("a")
    nvml.nvmlDeviceGetComputeRunningProcesses = error(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)  # type: ignore[method-assign]
    (gpu,) = Nvml(nvml).read()
    assert gpu.processes is None
    assert gpu.used_by([ME]) == 0


def test_this_machine_can_be_asked() -> None:
    assert all(isinstance(gpu, Gpu) for gpu in read_nvml())  # none without a driver

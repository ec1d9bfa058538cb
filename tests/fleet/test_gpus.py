"""Which replica gets which GPU."""

import sys
import types
from typing import Any

import msgspec
import pytest

from router.fleet.gpus import Gpu, place, read_nvml


class Asked(msgspec.Struct, frozen=True):
    mode: str = "inherit"
    count: int = 0
    ids: tuple[str, ...] = ()


class Wish(msgspec.Struct, frozen=True):
    name: str
    gpus: Asked
    replicas: int = 1


def gpus(*free: int) -> list[Gpu]:
    return [Gpu(index, f"GPU-{index}", "H200", 100, each) for index, each in enumerate(free)]


def ids(*names: str) -> Asked:
    return Asked("ids", ids=names)


def count(number: int) -> Asked:
    return Asked("count", number)


NONE, INHERIT = Asked("none"), Asked()


@pytest.mark.parametrize(
    ("wishes", "machine", "placed"),
    [
        ([Wish("a", INHERIT)], gpus(9, 9), {"a0": None}),
        ([Wish("a", NONE)], gpus(9, 9), {"a0": ()}),
        ([Wish("a", ids("1"))], gpus(9, 9), {"a0": ("1",)}),
        ([Wish("a", ids("0", "1"))], gpus(9, 9), {"a0": ("0", "1")}),
        # Named ones are shared out evenly, or else all are for all.
        ([Wish("a", ids("0", "1"), 2)], gpus(9, 9), {"a0": ("0",), "a1": ("1",)}),
        (
            [Wish("a", ids("0", "1", "2", "3"), 2)],
            gpus(9, 9, 9, 9),
            {"a0": ("0", "1"), "a1": ("2", "3")},
        ),
        ([Wish("a", ids("0"), 2)], gpus(9), {"a0": ("0",), "a1": ("0",)}),
        ([Wish("a", ids("0", "1", "2"), 2)], gpus(9, 9, 9), {"a0": ("0", "1", "2"), "a1": ("0", "1", "2")}),
        # Counted ones: the least used, then the emptiest, then the first.
        ([Wish("a", count(1))], gpus(9, 9), {"a0": ("GPU-0",)}),
        ([Wish("a", count(1))], gpus(3, 9), {"a0": ("GPU-1",)}),
        ([Wish("a", count(1), 2)], gpus(9, 9), {"a0": ("GPU-0",), "a1": ("GPU-1",)}),
        ([Wish("a", count(1), 3)], gpus(9, 9), {"a0": ("GPU-0",), "a1": ("GPU-1",), "a2": ("GPU-0",)}),
        ([Wish("a", count(2)), Wish("b", count(1))], gpus(9, 9, 9), {"a0": ("GPU-0", "GPU-1"), "b0": ("GPU-2",)}),
        # Named ones count as used wherever they stand in the file, by index or by UUID.
        ([Wish("a", count(1)), Wish("b", ids("0"))], gpus(9, 3), {"a0": ("GPU-1",), "b0": ("0",)}),
        ([Wish("a", count(1)), Wish("b", ids("GPU-0"))], gpus(9, 3), {"a0": ("GPU-1",), "b0": ("GPU-0",)}),
        ([Wish("a", count(1)), Wish("b", NONE), Wish("c", INHERIT)], gpus(9), {"a0": ("GPU-0",), "b0": (), "c0": None}),
    ],
)
def test_place(wishes: list[Wish], machine: list[Gpu], placed: dict[str, tuple[str, ...] | None]) -> None:
    assert {f"{name}{replica}": got for (name, replica), got in place(wishes, machine).items()} == placed


class FakeNvml(types.ModuleType):
    """Three GPUs: one has fallen off the bus, one shares the machine's memory; or no driver."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):  # noqa: N801
        pass

    def __init__(self, *, driver: bool) -> None:
        super().__init__("pynvml")
        self.driver, self.open = driver, False

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")
        self.open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index == 0:
            raise self.NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        if handle == 2:
            raise self.NVMLError_NotSupported("Not Supported")
        return types.SimpleNamespace(total=100, free=40)

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, _handle: int) -> str:  # noqa: N802
        return "H200"


@pytest.mark.parametrize("driver", [False, True])
def test_nvml_gives_what_works(monkeypatch: pytest.MonkeyPatch, driver: bool) -> None:
    nvml = FakeNvml(driver=driver)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert read_nvml() == ([Gpu(1, "GPU-1", "H200", 100, 40), Gpu(2, "GPU-2", "H200", 0, 0)] if driver else [])
    assert not nvml.open


def test_this_machine_can_be_asked() -> None:
    assert all(isinstance(gpu, Gpu) for gpu in read_nvml())  # none without a driver

"""The GPUs of this machine, and which replica gets which."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec


class Gpu(msgspec.Struct, frozen=True):
    """One GPU; memory in bytes, 0 where the driver does not tell (it is the machine's own)."""

    index: int
    uuid: str
    name: str
    total: int
    free: int


def read_nvml() -> list[Gpu]:
    """NVIDIA's GPUs, in the order of PCI_BUS_ID; none where there is no driver, and none that does not answer."""
    import pynvml  # noqa: PLC0415 - only who asks for GPUs pays for it

    gpus = []
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            for index in range(pynvml.nvmlDeviceGetCount()):
                with suppress(pynvml.NVMLError):  # it has fallen off the bus
                    gpus.append(_read(pynvml, index))
        finally:
            pynvml.nvmlShutdown()
    return gpus


def _read(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    total = free = 0
    with suppress(nvml.NVMLError_NotSupported):
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = memory.total, memory.free
    return Gpu(index, nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle), total, free)


class Request(Protocol):
    """What a model asks for, see `router.config.specs.GpuRequest`."""

    @property
    def mode(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def ids(self) -> tuple[str, ...]: ...


class Wish(Protocol):
    """A model, as far as placing it goes."""

    @property
    def name(self) -> str: ...
    @property
    def replicas(self) -> int: ...
    @property
    def gpus(self) -> Request: ...


Placement = Mapping[tuple[str, int], tuple[str, ...] | None]
"""Model and replica → the GPUs it gets; None where nothing is to be set."""


def place(wishes: Sequence[Wish], gpus: Sequence[Gpu]) -> Placement:
    """Named GPUs are shared out evenly between a model's replicas where their number allows it, else each replica gets
    all. Counted ones are the least used so far."""
    used: Counter[str] = Counter()
    names = {str(gpu.index): gpu.uuid for gpu in gpus}
    placed: dict[tuple[str, int], tuple[str, ...] | None] = {}
    for wish in sorted(wishes, key=lambda wish: wish.gpus.mode == "count"):
        for replica in range(wish.replicas):
            chosen = _choose(wish, replica, gpus, used)
            placed[wish.name, replica] = chosen
            used.update(names.get(gpu, gpu) for gpu in chosen or ())
    return placed


def _choose(wish: Wish, replica: int, gpus: Sequence[Gpu], used: Counter[str]) -> tuple[str, ...] | None:
    request = wish.gpus
    if request.mode == "ids":
        share, rest = divmod(len(request.ids), wish.replicas)
        return request.ids if rest else request.ids[replica * share : (replica + 1) * share]
    if request.mode == "none":
        return ()
    if request.mode == "count" and gpus:
        least = sorted(gpus, key=lambda gpu: (used[gpu.uuid], -gpu.free, gpu.index))
        return tuple(gpu.uuid for gpu in least[: request.count])
    return None

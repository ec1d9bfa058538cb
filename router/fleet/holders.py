"""Who holds the memory of a GPU, or is about to: engines of ours by name, others' processes by pid, name and user."""

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from router.fleet.inventory import Gpu, GpuProcess


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of the GPU `uuid` that an engine of the model `name` has or is about to take: `size` bytes, 0 if nobody
    knows.

    `pids` are its processes, by which the driver's list says how much of it is taken already. Where that list has none
    of them (a container may see the host's pids) it is all of a `ready` engine; of a starting one what is less free
    than `before` its start, as nothing else starts there, and nothing where that is not known.
    """

    name: str
    uuid: str
    size: int
    pids: frozenset[int] = frozenset()
    ready: bool = False
    before: int | None = None


def taken(holding: Holding, gpu: Gpu) -> int:
    """Bytes of `gpu` that were seen to be taken by it; 0: none, or nobody knows."""
    before = gpu.free if holding.before is None else holding.before
    return gpu.used_by(holding.pids) or max(0, before - gpu.free)


def pending(holding: Holding, gpu: Gpu) -> int:
    """Bytes of `holding` that `gpu.free` still has, though they are spoken for."""
    seen = taken(holding, gpu)
    return 0 if holding.ready and not seen else max(0, holding.size - seen)


def holders(gpu: Gpu, held: Iterable[Holding], owners: Mapping[int, str]) -> list[str]:
    """Words on each of them, the largest first. `owners`: pids of our engines' processes → their names."""
    lines = [*_own(gpu, owners), *_strangers(gpu, owners), *_coming(gpu, held)]
    return [words for _, words in sorted(lines, key=lambda line: (-line[0], line[1]))]


def size(count: int) -> str:
    """Bytes as people read them: `61.2 GiB`."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"


def _own(gpu: Gpu, owners: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    used: dict[str, int] = {}
    for process in gpu.processes or ():
        if process.pid in owners:
            used[owners[process.pid]] = used.get(owners[process.pid], 0) + (process.used or 0)
    yield from ((taken, f"{name} holds {_amount(taken)}") for name, taken in used.items())


def _strangers(gpu: Gpu, owners: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    for process in gpu.processes or ():
        if process.pid not in owners:
            yield process.used or 0, f"{_who(process)} holds {_amount(process.used or 0)}"


def _coming(gpu: Gpu, held: Iterable[Holding]) -> Iterator[tuple[int, str]]:
    for holding in held:
        coming = pending(holding, gpu)
        if coming:
            yield coming, f"{holding.name} will take {size(coming)}"


def _amount(taken: int) -> str:
    return size(taken) if taken else "some memory"


def _who(process: GpuProcess) -> str:
    user = f", user {process.user}" if process.user else ""
    return f"{process.name or 'a process'} (pid {process.pid}{user})"

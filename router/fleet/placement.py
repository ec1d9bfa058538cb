"""Which replica gets which GPUs: decided from a snapshot, without asking anything."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from router.fleet.holders import Holding, holders, pending, size
from router.fleet.inventory import Gpu
from router.fleet.need import Need


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What replica number `replica` of the model `name`, which has `replicas`, asks for.

    `inherit`: nothing is set; `none`; `count` GPUs; or its share of `ids` (NVML indices or UUIDs). `need` is what it
    takes of each, None where nobody can tell.
    """

    name: str
    replica: int = 0
    replicas: int = 1
    mode: Literal["inherit", "none", "count", "ids"] = "count"
    count: int = 1
    ids: tuple[str, ...] = ()
    need: Need | None = None


class Placement(msgspec.Struct, frozen=True):
    """The UUIDs of a replica's GPUs and, for each, the bytes that it will take (0: unknown). None where nothing is to
    be set, empty for the CPU."""

    gpus: tuple[str, ...] | None
    sizes: tuple[int, ...] = ()


class Refusal(msgspec.Struct, frozen=True):
    """There is no room now; when memory is given back there may be. `reason` is for people, in one line."""

    reason: str


def place(
    wishes: Sequence[Wish], gpus: Iterable[Gpu], held: Iterable[Holding] = (), owners: Mapping[int, str] | None = None
) -> dict[tuple[str, int], Placement | Refusal]:
    """By model and replica.

    `held` is what engines of ours have or are about to take, `owners` the pids of our engines' processes and their
    names. Named GPUs are given first; then many before few and large before small, since these have the least choice;
    between equals the order of `wishes` counts. What is given counts for the ones that follow.
    """
    machine = _Machine(gpus, held, owners or {})
    placed = {}
    for wish in sorted(wishes, key=_urgency):
        placed[wish.name, wish.replica] = machine.give(wish)
    return placed


def share(ids: tuple[str, ...], replica: int, replicas: int) -> tuple[str, ...]:
    """Named GPUs are shared out evenly between a model's replicas where their number allows it, else each gets all."""
    each, rest = divmod(len(ids), replicas)
    return ids if rest else ids[replica * each : (replica + 1) * each]


def numbered(wishes: Sequence[Wish]) -> dict[tuple[str, int], Placement]:
    """The same without an inventory, as for the GPUs of other vendors: what is counted gets the lowest indices that
    nobody else has, so that no GPU has two engines unless it was named twice."""
    placed, used = {}, set[str]()
    for wish in sorted(wishes, key=lambda wish: wish.mode == "count"):
        chosen = _numbers(wish, used)
        placed[wish.name, wish.replica] = Placement(chosen, (0,) * len(chosen or ()))
        used.update(chosen or ())
    return placed


def _numbers(wish: Wish, used: set[str]) -> tuple[str, ...] | None:
    match wish.mode:
        case "inherit":
            return None
        case "none":
            return ()
        case "ids":
            return share(wish.ids, wish.replica, wish.replicas)
        case "count":
            return tuple(_unused(used, wish.count))


def _unused(used: set[str], count: int) -> Iterator[str]:
    index = 0
    while count:
        if str(index) not in used:
            yield str(index)
            count -= 1
        index += 1


def _urgency(wish: Wish) -> tuple[bool, int, float, int]:
    """Small is first. What a need is on a GPU depends on the GPU; a share is more than any number of bytes."""
    need = wish.need or Need()
    return wish.mode == "count", -wish.count, -need.share, -need.fixed


class _Machine:
    """The GPUs while they are given out: all that changes during one `place`."""

    def __init__(self, gpus: Iterable[Gpu], held: Iterable[Holding], owners: Mapping[int, str]) -> None:
        self._gpus = sorted(gpus, key=lambda gpu: gpu.index)
        self._owners = owners
        self._held: dict[str, list[Holding]] = {gpu.uuid: [] for gpu in self._gpus}
        for holding in held:
            self._held.setdefault(holding.uuid, []).append(holding)

    def give(self, wish: Wish) -> Placement | Refusal:
        if wish.mode == "inherit":
            return Placement(None)
        if wish.mode == "none":
            return Placement(())
        chosen = self._named(wish) if wish.mode == "ids" else self._counted(wish)
        if isinstance(chosen, Refusal):
            return chosen
        sizes = tuple(self._size(gpu, wish.need) for gpu in chosen)
        for gpu, taken in zip(chosen, sizes, strict=True):
            self._held[gpu.uuid].append(Holding(name=wish.name, uuid=gpu.uuid, size=taken))
        return Placement(tuple(gpu.uuid for gpu in chosen), sizes)

    def _named(self, wish: Wish) -> Sequence[Gpu] | Refusal:
        names = share(wish.ids, wish.replica, wish.replicas)
        found = {name: gpu for gpu in self._gpus for name in (str(gpu.index), gpu.uuid)}
        missing = [name for name in names if name not in found]
        if missing:
            return Refusal(f"GPU {missing[0]} does not answer")
        chosen = [found[name] for name in names]
        short = [gpu for gpu in chosen if not self._fits(gpu, wish.need)]
        hard = wish.need is not None and wish.need.hard
        return Refusal("; ".join(self._words(gpu, wish.need) for gpu in short)) if short and hard else chosen

    def _counted(self, wish: Wish) -> Sequence[Gpu] | Refusal:
        if wish.count > len(self._gpus):
            return Refusal(f"{_gpus(wish.count)} asked for, {len(self._gpus)} found")
        ranked = sorted(self._gpus, key=lambda gpu: self._rank(gpu, wish))
        fitting = [gpu for gpu in ranked if self._fits(gpu, wish.need)]
        if len(fitting) >= wish.count:
            return fitting[: wish.count]
        if wish.need is not None and wish.need.hard:
            words = "; ".join(self._words(gpu, wish.need) for gpu in self._gpus if gpu not in fitting)
            return Refusal(words if wish.count == 1 else f"{_gpus(wish.count)} asked for: {words}")
        return [*fitting, *(gpu for gpu in ranked if gpu not in fitting)][: wish.count]

    def _rank(self, gpu: Gpu, wish: Wish) -> tuple[int, int, int, int]:
        """The first is the best. Replicas of one model stand apart, so that a GPU that fails takes one of them; an
        engine whose need nobody knows may take everything, so that the next one better goes elsewhere; then the most
        free memory; then the fewest engines. Between equals the lowest index counts."""
        held = self._held[gpu.uuid]
        alike = sum(holding.name == wish.name for holding in held)
        unknown = sum(not holding.size for holding in held)
        return alike, unknown, -self._free(gpu), len(held)

    def _fits(self, gpu: Gpu, need: Need | None) -> bool:
        """Always where either of them is unknown."""
        return need is None or not gpu.total or need.on(gpu.total) <= self._free(gpu)

    def _size(self, gpu: Gpu, need: Need | None) -> int:
        """What is reserved: no more than there is, where it makes do with less."""
        wanted = 0 if need is None else need.on(gpu.total)
        return wanted if not gpu.total else min(wanted, max(0, self._free(gpu)))

    def _free(self, gpu: Gpu) -> int:
        return gpu.free - sum(pending(holding, gpu) for holding in self._held[gpu.uuid])

    def _words(self, gpu: Gpu, need: Need | None) -> str:
        """Why a GPU is too small: what is needed, what is free, who holds the rest."""
        assert need is not None  # noqa: S101 - without a need every GPU fits
        free = max(0, self._free(gpu))
        room = f"GPU {gpu.index} has {size(free)} of {size(gpu.total)} free and {size(need.on(gpu.total))} is needed"
        who = holders(gpu, self._held[gpu.uuid], self._owners)
        return f"{room} ({need.known})" + (f": {', '.join(who)}" if who else "")


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' if count > 1 else ''}"

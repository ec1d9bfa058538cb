"""`gpus:` against the GPUs that this machine has."""

from router.config.faults import Where
from router.config.scope import Scope
from router.config.specs import GpuRequest

Written = int | str | list[int | str] | None


def request(scope: Scope, value: Written, where: Where) -> GpuRequest | None:
    """None with its faults in the document."""
    if value is None:
        return GpuRequest()
    if value in ("none", 0):
        return GpuRequest("none")
    if value == "auto" or isinstance(value, int):
        return _count(scope, 1 if value == "auto" else int(value), where)
    if isinstance(value, list):
        return _listed(scope, value, where)
    if value.isdecimal() or "," in value:
        remedy = "write 2 without quotes for two GPUs, [2] for GPU 2, [0, 1] for GPUs 0 and 1"
        scope.document.fault(where, f"{scope.document.show(value)} may mean a number or a GPU", remedy)
        return None
    return _listed(scope, [value], where, lone=True)


def _count(scope: Scope, count: int, where: Where) -> GpuRequest | None:
    if 0 < count <= len(scope.gpus):
        return GpuRequest("count", count)
    few = "ask for fewer, or write `none` for the CPU" if scope.gpus else "write `none` for the CPU"
    scope.document.fault(where, f"{scope.document.show(count)} asked for, {len(scope.gpus)} found", few)
    return None


def _listed(scope: Scope, items: list[int | str], where: Where, *, lone: bool = False) -> GpuRequest | None:
    if not items:
        scope.document.fault(where, "an empty list", "write `none` for the CPU")
        return None
    found: list[int] = []
    for number, item in enumerate(items):
        here = where if lone else (*where, number)
        index = _index(scope, item, here)
        if index is None:
            continue
        if index in found:
            scope.document.fault(here, f"GPU {index} stands twice", "name each GPU once")
        found.append(index)
    return GpuRequest("ids", ids=tuple(map(str, found))) if len(found) == len(items) else None


def _index(scope: Scope, item: int | str, where: Where) -> int | None:
    """The NVML index, whichever way the GPU is named: CUDA takes no mixture of indices and UUIDs."""
    for gpu in scope.gpus:
        if str(item) in (str(gpu.index), gpu.uuid):
            return gpu.index
    known = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in scope.gpus) or "none"
    problem = f"GPU {scope.document.show(item)} does not exist (found: {known})"
    scope.document.fault(where, problem, "name one that exists, `auto` or `none`" if scope.gpus else "write `none`")
    return None

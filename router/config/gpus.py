"""`gpus:` against the GPUs that this machine has."""

from launchers.devices import Accelerator
from router.config.faults import Where
from router.config.scope import Scope
from router.config.specs import GpuRequest

Written = int | str | list[int | str] | None


def request(scope: Scope, value: Written, where: Where, accelerator: Accelerator = "cuda") -> GpuRequest | None:
    """None with its faults in the document."""
    if value is None or value in ("none", 0):
        return GpuRequest("inherit" if value is None else "none")
    if accelerator != "cuda":
        return _unchecked(scope, value, where)
    if value == "auto" or isinstance(value, int):
        return _count(scope, 1 if value == "auto" else int(value), where)
    if isinstance(value, list):
        return _listed(scope, value, where)
    if value.isdecimal() or "," in value:
        remedy = "write 2 without quotes for two GPUs, [2] for GPU 2, [0, 1] for GPUs 0 and 1"
        scope.document.fault(where, f"{scope.document.show(value)} may mean a number or a GPU", remedy)
        return None
    return _listed(scope, [value], where, lone=True)


def _unchecked(scope: Scope, value: int | str | list[int | str], where: Where) -> GpuRequest | None:
    """GPUs of which there is no inventory: by number alone."""
    if value == "auto" or (isinstance(value, int) and value > 0):
        return GpuRequest("count", 1 if value == "auto" else int(value))
    items = value if isinstance(value, list) else [value]
    ids = tuple(str(item) for item in items)
    if ids and all(each.isdecimal() for each in ids) and len(set(ids)) == len(ids) and isinstance(value, list):
        return GpuRequest("ids", ids=ids)
    remedy = "write a number of GPUs, or a list of indices, each once: [0, 1]"
    scope.document.fault(where, f"{scope.document.show(value)} names no GPUs of this accelerator", remedy)
    return None


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

"""Which GPUs an engine sees: the environment that the programs of each vendor obey."""

from typing import Literal

Accelerator = Literal["cuda", "rocm", "ascend", "xpu"]


def visible(gpus: tuple[str, ...] | None, accelerator: Accelerator = "cuda") -> dict[str, str]:
    """The environment for `Launch.gpus`: nothing for None (the engine decides), no device for (), else just these.

    `gpus` are NVML indices or UUIDs for CUDA, and the indices that the vendor's own tools count by for the others.
    """
    if gpus is None:
        return {}
    listed = ",".join(gpus)
    match accelerator:
        case "cuda":
            return _cuda(listed)
        case "rocm":
            return _rocm(listed)
        case "ascend":
            return {"ASCEND_RT_VISIBLE_DEVICES": listed}
        case "xpu":
            return _xpu(listed)


def _cuda(listed: str) -> dict[str, str]:
    """`PCI_BUS_ID` makes CUDA count as NVML does; without it the fastest card is number 0."""
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if listed else {}
    return {**order, "CUDA_VISIBLE_DEVICES": listed}


def _rocm(listed: str) -> dict[str, str]:
    """HIP obeys either variable and takes an empty one for an unset one; -1 hides all. Both are set, since vLLM refuses
    two that differ and one may be inherited. ROCR_VISIBLE_DEVICES is left alone: it is applied first, so that the
    indices count among what it leaves."""
    hip = listed or "-1"
    return {"HIP_VISIBLE_DEVICES": hip, "CUDA_VISIBLE_DEVICES": hip}


def _xpu(listed: str) -> dict[str, str]:
    """An empty mask is none to Level Zero, so that SYCL has to be told to leave out every GPU."""
    return {"ZE_AFFINITY_MASK": listed} if listed else {"ONEAPI_DEVICE_SELECTOR": "!*:gpu"}

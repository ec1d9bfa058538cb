"""Which GPUs an engine sees: the environment that every CUDA program obeys."""


def visible(gpus: tuple[str, ...] | None) -> dict[str, str]:
    """The environment for `Launch.gpus`: nothing for None (the engine decides), no device for (), else just these.

    `PCI_BUS_ID` makes CUDA count as NVML does; without it the fastest card is number 0.
    """
    if gpus is None:
        return {}
    if not gpus:
        return {"CUDA_VISIBLE_DEVICES": ""}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(gpus)}

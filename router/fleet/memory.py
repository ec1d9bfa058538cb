"""The machine's own memory."""

from contextlib import suppress

import psutil


def resident(pid: int) -> int:
    """Bytes that a process and all below it have in memory."""
    size = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                size += process.memory_info().rss
    return size


def free_memory() -> int:
    """Bytes that a new process could have without others being swapped out."""
    return int(psutil.virtual_memory().available)

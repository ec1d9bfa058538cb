"""Processes of engines whose keeper was killed: found by a mark in their environment, and ended."""

import os
from collections.abc import Iterator
from contextlib import suppress

import psutil

MARKER = "ENGINE_ROUTER_RUN"
"""Set in every engine's environment, and so in that of all it forks: the state folder, `#`, and a name of the run."""
WAIT = 5.0
"""Seconds for the kernel to end what was killed."""


def kill_marked(mark: str, root: int | None = None) -> list[int]:
    """SIGKILL for every process whose mark begins with `mark`, until none is left; the pids that were killed.

    If `root` is one of them its descendants are too: a process that renames itself may have lost its environment.
    """
    killed: dict[int, psutil.Process] = {}
    while found := {process.pid: process for process in _marked(mark, root) if process.pid not in killed}:
        for process in found.values():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        killed |= found
        psutil.wait_procs(found.values(), timeout=WAIT)
    return sorted(killed)


def _marked(mark: str, root: int | None) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARKER, "").startswith(mark):
                yield process
                if process.pid == root:
                    yield from process.children(recursive=True)

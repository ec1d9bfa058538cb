"""Processes of engines whose keeper was killed: found by a mark in their environment, and ended."""

import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

import psutil

MARKER = "ENGINE_ROUTER_RUN"
"""Set in the environment of every keeper and engine, and so in that of all they fork: the state folder, `#`, which
folder that is, `#`, and a name of the run."""
KEEPS_ENVIRONMENT = {"SPT_NOENV": "1"}
"""Keeps setproctitle, with which vLLM names its processes, from writing over the environment that /proc shows."""
WAIT = 5.0
"""Seconds for the kernel to end what was killed."""
LOOK = 0.01


def kill_marked(mark: str, root: psutil.Process | None = None, spared: Collection[str] = ()) -> None:
    """SIGKILL for every process whose mark begins with `mark` and is none of `spared`, until none is left.

    `root` and its descendants too: a process that renames itself may have lost its environment.
    """
    killed: set[psutil.Process] = set()
    while found := {*_marked(mark, spared), *_family(root)} - killed:
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        killed |= found
        _wait(found)


def _wait(killed: Iterable[psutil.Process]) -> None:
    """Until they are gone, or at least zombies: those are for init to reap, which may take its time."""
    end = time.monotonic() + WAIT
    while not all(map(_is_dead, killed)) and time.monotonic() < end:
        time.sleep(LOOK)


def _is_dead(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def _marked(mark: str, spared: Collection[str]) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            found = process.environ().get(MARKER, "")
            if process.pid != os.getpid() and found.startswith(mark) and found not in spared:
                yield process


def _family(root: psutil.Process | None) -> list[psutil.Process]:
    with suppress(psutil.Error):
        if root is not None and root.is_running():
            return [*root.children(recursive=True), root]
    return []

"""What the system says when an engine has failed. Linux; elsewhere it says nothing."""

import errno
import os
import socket
from pathlib import Path

import psutil

from router.fleet.diagnosis.values import Facts

SHM = Path("/dev/shm")  # noqa: S108 - nothing is made there


def system_facts(*, oom_kills_before: int, downloads: Path, port: int | None = None) -> Facts:
    """A few milliseconds; never raises. `oom_kills_before`: `oom_kills()` when the run began. `downloads`: the folder
    where the engine keeps what it downloads, which need not exist. `port`: the engine's own, to be asked for once the
    engine is gone."""
    return Facts(
        oom_kills=max(0, oom_kills() - oom_kills_before),
        disk_free=_free(downloads),
        shm_free=_free(SHM),
        port_taken_by=None if port is None else holder(port),
    )


def oom_kills() -> int:
    """Processes of this control group that were ever killed for want of memory, or of the whole machine where
    there is no such count; 0 where nobody counts."""
    for file, word in ((_memory_events(), "oom_kill"), (Path("/proc/vmstat"), "oom_kill")):
        count = _counter(file, word)
        if count is not None:
            return count
    return 0


def _memory_events() -> Path:
    """The count of this process's control group (version 2), which an engine is in as well."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    group = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    return Path("/sys/fs/cgroup") / group.lstrip("/") / "memory.events"


def _counter(file: Path, word: str) -> int | None:
    try:
        rows = (line.split() for line in file.read_text().splitlines())
        return next((int(row[1]) for row in rows if row[0] == word), None)
    except (OSError, ValueError, IndexError):
        return None


def _free(folder: Path) -> int | None:
    """Bytes for us on its file system, or on that of the nearest folder above it that exists."""
    for place in (folder, *folder.parents):
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize
    return None


def holder(port: int) -> str | None:
    """Who listens on a port of 127.0.0.1, see `listener`; None if nobody does."""
    return None if _is_free(port) else listener(port)


def listener(port: int) -> str:
    """Who listens on a port: `pid 17 (nginx)`, or `another program` where that cannot be seen."""
    try:
        listening = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        listening = []
    for found in listening:
        if found.status == psutil.CONN_LISTEN and found.laddr and found.laddr.port == port and found.pid:
            return f"pid {found.pid} ({_name(found.pid)})"
    return "another program"


def _is_free(port: int) -> bool:
    """With SO_REUSEADDR, so that connections that are just being forgotten do not count."""
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError as error:
        return error.errno != errno.EADDRINUSE
    return True


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "?"

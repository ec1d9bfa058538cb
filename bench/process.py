"""A process of the benchmark, pinned to one core, with the CPU time and memory it has used."""

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

MEASURED = 0
"""The core of what is measured."""
OTHER = 1
"""The core of the load, the stub and everything else."""


def raise_limits() -> None:
    """Children inherit it: 4,000 streams are 8,000 connections of a router."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def wait_for_port(port: int, seconds: float = 10) -> None:
    """Until something listens there. TimeoutError if nothing does."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on port {port}") from error
            time.sleep(0.02)


def pinned(core: int | None, argv: Sequence[str]) -> list[str]:
    """None: wherever there is room."""
    return list(argv) if core is None else ["taskset", "-c", str(core), *argv]


class Process:
    """A running program. `alone`: its children are no part of what is measured."""

    def __init__(
        self,
        argv: Sequence[str],
        core: int | None,
        log: Path,
        env: Mapping[str, str] | None = None,
        *,
        alone: bool = False,
    ) -> None:
        self.log = log
        self._alone = alone
        with log.open("wb") as file:
            self._popen = subprocess.Popen(
                pinned(core, argv),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def ended(self) -> bool:
        return self._popen.poll() is not None

    def cpu(self) -> float:
        """µs on the CPU so far, of all threads."""
        return sum(map(cpu_of, self._pids()))

    def cpu_of_all(self) -> float:
        """The same with all children, those too that are no part of what is measured."""
        return sum(map(cpu_of, _tree(self._popen.pid)))

    def memory(self) -> int:
        """Resident bytes."""
        return sum(_status(pid, "VmRSS:") for pid in self._pids())

    def peak(self) -> int:
        """The most bytes resident since `forget_peak`; of several processes the sum of each one's most."""
        return sum(_status(pid, "VmHWM:") for pid in self._pids())

    def forget_peak(self) -> None:
        for pid in self._pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def pause(self) -> None:
        """Stopped, so that it takes nothing from who is measured meanwhile."""
        os.killpg(self._popen.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self._popen.pid, signal.SIGCONT)

    def end(self) -> None:
        """SIGTERM to the program, which gets 15 s, then SIGKILL to all that is left of its session."""
        if not self.ended:
            self.resume()
        self._popen.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _pids(self) -> list[int]:
        return [self._popen.pid] if self._alone else _tree(self._popen.pid)


def cpu_of(pid: int) -> float:
    """µs on the CPU so far, of all threads of one process: the scheduler's own count, in ns."""
    return sum(map(_nanoseconds, Path(f"/proc/{pid}/task").glob("*/schedstat"))) / 1e3


def cpu_of_cores() -> float:
    """µs that anything has run so far, on all cores, and that the host kept from them; to 10 ms."""
    line = Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, line.split()[1:9])
    return (user + nice + system + irq + softirq + steal) * 1e6 / os.sysconf("SC_CLK_TCK")


def _tree(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def _nanoseconds(thread: Path) -> int:
    try:
        return int(thread.read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):  # ended between the two looks
        return 0


def _status(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)

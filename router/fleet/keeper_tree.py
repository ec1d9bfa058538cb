"""The processes below this one, read from /proc. A process is a pid and its start time, so that a recycled pid is never
taken for the old one. Standard library only."""

import ctypes
import errno
import os
import signal
from contextlib import suppress

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Orphans of the tree become children of this process. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def read_stat(pid: int) -> tuple[int, int, bool]:
    """(parent, start time in ticks, alive): a zombie is not, unless only its first thread has ended. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[1]), int(fields[19]), fields[0] not in b"ZX" or int(fields[17]) > 1


def all_pids() -> list[int]:
    """Every process that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants() -> dict[int, int]:
    """The living processes below this one, pid to start time. One forked meanwhile may be missing: only `reap` proves
    that none is left."""
    below: dict[int, list[int]] = {}
    living: dict[int, int] = {}
    for pid in all_pids():
        with suppress(OSError):
            parent, start, alive = read_stat(pid)
            below.setdefault(parent, []).append(pid)
            if alive:
                living[pid] = start
    found = [os.getpid()]
    for pid in found:
        found.extend(below.get(pid, ()))
    return {pid: living[pid] for pid in found[1:] if pid in living}


def children() -> list[int]:
    """The children of this process, zombies too, much faster than `descendants`; empty where the kernel has no such
    file. A child's pid is not recycled before this process reaps it."""
    with suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
        return [int(pid) for pid in file.read().split()]
    return []


def send(pid: int, start: int, *signals: int) -> bool:
    """Signals the process if it is still the one that began at `start`; whether it got them."""
    try:
        if read_stat(pid)[1] != start:
            return False
        for number in signals:
            os.kill(pid, number)
    except OSError:
        return False
    return True


def reap(most: int = 1000) -> tuple[dict[int, int], bool]:
    """Collects ended children: (pid to exit code, negative for a signal; whether no descendant at all is left)."""
    ended: dict[int, int] = {}
    for _ in range(most):
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, True
        if pid == 0:
            break
        ended[pid] = os.waitstatus_to_exitcode(status)
    return ended, False


def is_tracker(pid: int) -> bool:
    """Whether it is multiprocessing's resource_tracker: deaf to SIGTERM, it unlinks psm_* and sem.mp-* when its users
    are gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"multiprocessing.resource_tracker" in file.read(4096)
    except OSError:
        return False


def raw(text: str) -> bytes:
    """The bytes a process gets, whatever the locale."""
    return text.encode(errors="surrogateescape")


def spawn(argv: list[str], env: dict[str, str], cwd: str) -> tuple[int, int]:
    """Starts the engine in a session of its own, signals at their defaults: (pid, the pipe with all it prints). It gets
    SIGTERM should this process be killed. Raises OSError."""
    libc = ctypes.CDLL(None)
    reader, writer = os.pipe()
    failed, failing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(libc, failing, writer, argv, env, cwd)
    os.close(writer)
    os.close(failing)
    words = os.read(failed, 100).decode()
    os.close(failed)
    if words:
        os.close(reader)
        os.waitpid(pid, 0)
        step, _, number = words.partition(" ")
        what = f"enter {cwd}" if step == "chdir" else f"start {argv[0]}"
        raise OSError(f"cannot {what}: {os.strerror(int(number))}")
    os.set_blocking(reader, False)
    return pid, reader


def _become(libc: ctypes.CDLL, failing: int, output: int, argv: list[str], env: dict[str, str], cwd: str) -> None:
    """The child's part of `spawn`, which does not return. Its pipes close with the exec; faults go to `failing`."""
    step = "start"
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        step = "chdir"
        os.chdir(cwd)
        step = "exec"
        os.execvpe(  # noqa: S606 - no shell is wanted
            argv[0], [raw(text) for text in argv], {raw(name): raw(text) for name, text in env.items()}
        )
    except BaseException as error:
        os.write(failing, f"{step} {getattr(error, 'errno', None) or errno.EINVAL}".encode())
    finally:
        os._exit(127)

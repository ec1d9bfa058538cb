"""Fake engines for the keeper's tests: `python misbehave.py BEHAVIOUR [ARGUMENT]`. Each says `BEHAVIOUR ready`."""

import contextlib
import ctypes
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context, shared_memory
from multiprocessing.synchronize import Event, Lock


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def child(body: Callable[[], None]) -> int:
    """Forks a child that runs `body`, and returns when it has begun to wait."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        body()
        os.write(writer, b".")
        wait()
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    return pid


def wait() -> None:
    while True:
        signal.pause()


def deafen() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def hear(text: str) -> None:
    """SIGTERM: says so and exits 0."""

    def leave(*_: object) -> None:
        say(text)
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)


def polite() -> None:
    hear("bye")


def deaf() -> None:
    deafen()


def daemon() -> None:
    """A grandchild in a session of its own, its parent gone, deaf."""

    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        child(deafen)
        os.write(writer, b".")
        os._exit(0)
    os.read(reader, 1)
    os.wait()
    hear("bye")


def group() -> None:
    def body() -> None:
        os.setpgid(0, 0)
        deafen()

    child(body)
    hear("bye")


def stopped() -> None:
    """A stopped child that would leave politely."""
    pid = child(lambda: hear("the stopped child heard"))
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    hear("bye")


def deaf_family() -> None:
    """Leader and two children, all deaf."""
    child(deafen)
    child(deafen)
    deafen()


def threads() -> None:
    """A deaf child whose first thread has ended: /proc calls it a zombie."""

    reader, writer = os.pipe()
    if os.fork() == 0:
        deafen()
        threading.Thread(target=time.sleep, args=(1000,)).start()
        os.write(writer, b".")
        ctypes.CDLL(None).pthread_exit(None)
    os.read(reader, 1)
    hear("bye")


def storm() -> None:
    """Three chains of processes that fork, change session, and exit, for ever."""
    for _ in range(3):
        if os.fork() == 0:
            while True:
                with contextlib.suppress(OSError):
                    os.setsid()
                if os.fork():
                    os._exit(0)
    deafen()


def shm(name: str) -> None:
    """Makes /dev/shm/NAME and keeps it mapped; killed, it leaves the file."""
    fd = os.open(f"/dev/shm/{name}", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, 4096)
    keep.append(mmap.mmap(fd, 4096))
    os.close(fd)
    deafen()


def read_shm(name: str) -> None:
    """Maps an existing /dev/shm/NAME for reading, as an engine does with weights."""
    fd = os.open(f"/dev/shm/{name}", os.O_RDONLY)
    keep.append(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
    os.close(fd)


def hold(_lock: Lock, ready: Event) -> None:
    deafen()
    ready.set()
    wait()


def python_shm() -> None:
    """A multiprocessing engine: shared memory, semaphores, a resource_tracker, and a spawned worker that is deaf."""
    context = get_context("spawn")
    block = shared_memory.SharedMemory(create=True, size=4096)
    lock, ready = context.Lock(), context.Event()
    worker = context.Process(target=hold, args=(lock, ready))
    worker.start()
    ready.wait()
    keep.extend([block, lock, worker])
    say(f"block {block.name}")
    deafen()


BEHAVIOURS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (
        polite,
        deaf,
        daemon,
        group,
        stopped,
        deaf_family,
        threads,
        storm,
        shm,
        read_shm,
        python_shm,
    )
}

if __name__ == "__main__":
    keep: list[object] = []
    BEHAVIOURS[sys.argv[1]](*sys.argv[2:])
    say(f"{sys.argv[1]} ready")
    wait()

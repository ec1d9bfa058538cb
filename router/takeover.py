"""One router takes the place of another: the listening socket and the lock go from process to process, so that at no
time nobody listens, and nobody else can step in.

The new one asks by the commands' socket and names a socket of its own. The old one sends both descriptors there. The
new one says that it is ready, the old one lets go of its engines and says so; from then on the new one serves, and the
old one only finishes what it has begun.
"""

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from router.console.client import Client, NotRunning
from router.fleet.files import Files
from router.sockets import CannotStart, Held, Lock, private

SOCKET = "takeover.sock"
PATIENCE = 30.0
"""Seconds for the other side's next word."""
LOOK = 0.1
"""Seconds between two looks whether it is wanted still."""
ANSWER = 5.0
"""Seconds for the old router to answer at all."""
_READY, _YOURS = b"ready\n", b"yours\n"


def take_over(
    files: Files, listen: Callable[[socket.socket], socket.socket], stopped: Callable[[], bool]
) -> tuple[socket.socket | None, Lock]:
    """The old router has let go of its engines; its lock, and what `listen` has made of its listening socket, which may
    be another one and may still raise CannotStart. Without a socket where no router runs. Raises CannotStart, as soon
    as it is `stopped` too, and the old router goes on."""
    client = Client(files.state_dir, ANSWER)
    try:
        old = client.info()
    except NotRunning as error:
        return None, _lock(files, error)
    with private(files.state_dir / SOCKET) as listener:
        try:
            client.hand_over(files.state_dir / SOCKET)
            with _called(listener, stopped) as wire:
                wire.settimeout(PATIENCE)
                _, descriptors, _, _ = socket.recv_fds(wire, 16, 2)
                tcp, lock = _received(descriptors)
                tcp = listen(tcp)
                if stopped():
                    raise OSError("stopped before it let go")
                wire.sendall(_READY)
                if wire.recv(len(_YOURS)) != _YOURS:
                    raise OSError("it did not let go")
        except (OSError, NotRunning) as error:
            raise CannotStart(f"cannot take over from the router with pid {old.pid}: {error}; end it first") from None
    return tcp, Lock(files, lock)


def _called(listener: socket.socket, stopped: Callable[[], bool]) -> socket.socket:
    """The old router's connection. Raises OSError."""
    end = time.monotonic() + PATIENCE
    listener.settimeout(LOOK)
    while not stopped():
        with suppress(TimeoutError):
            return listener.accept()[0]
        if time.monotonic() > end:
            raise TimeoutError("it does not call back")
    raise OSError("stopped before it called back")


def _lock(files: Files, why: NotRunning) -> Lock:
    try:
        return Lock.take(files)
    except Held as held:
        raise CannotStart(f"cannot take over from the router that runs ({held.who}): {why}; end it first") from None


def _received(descriptors: list[int]) -> tuple[socket.socket, IO[str]]:
    if len(descriptors) != 2:
        raise OSError("it sent no sockets")
    return socket.socket(fileno=descriptors[0]), os.fdopen(descriptors[1], "r+")


async def hand_over(path: Path, tcp: socket.socket, lock: Lock, let_go: Callable[[], Awaitable[None]]) -> bool:
    """The old router's part. False: the new one has thought better of it, and nothing has changed."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as wire:
        wire.setblocking(False)
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.sock_connect(wire, str(path))
                socket.send_fds(wire, [b"sockets\n"], [tcp.fileno(), lock.file.fileno()])
                if await loop.sock_recv(wire, len(_READY)) != _READY:
                    return False
        except (OSError, TimeoutError):
            return False
        await let_go()
        with suppress(OSError):  # it has died: whoever comes next finds the engines
            await loop.sock_sendall(wire, _YOURS)
    return True

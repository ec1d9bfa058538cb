"""The router's end of a keeper's unix socket."""

import asyncio
import json
import os
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

KILL_WAIT = 10.0
"""Seconds a keeper waits for the kernel to end what was killed."""
STUCK = 5.0
"""Seconds after which a keeper that owes an answer is taken for stuck."""
LONGEST_LINE = 2**20
"""Bytes of a keeper's message: the pids of a tree may be many."""

Message = dict[str, Any]


class Wire:
    """One connection. It outlives its path: somebody may tidy up the state folder."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._asking = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> "Wire":
        """Raises OSError."""
        return cls(*await asyncio.open_unix_connection(str(path), limit=LONGEST_LINE))

    def send(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def receive(self, key: str) -> Message | None:
        """The next message that has `key`; None if the keeper is gone."""
        while True:
            try:
                message = json.loads(await self._reader.readline() or b"null")
            except (ConnectionError, ValueError, RecursionError):  # longer than any that a keeper sends, or no JSON
                message = None
            if not isinstance(message, dict):
                return None
            if key in message:
                return message

    async def ask(self, op: str, key: str, **more: Any) -> Message | None:
        """The answer to `op`, which has `key`. Raises TimeoutError when the keeper is stuck."""
        async with self._asking, asyncio.timeout(STUCK):
            self.send({"op": op, **more})
            return await self.receive(key)

    @property
    def peer(self) -> int:
        """The pid of the process that listens at the other end; 0 if nobody can tell, as in another container."""
        connection = self._writer.get_extra_info("socket")
        if connection is None:  # it is closed
            return 0
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        return pid

    def kill_peer(self) -> None:
        """SIGKILL for the process that listens at the other end."""
        if (pid := self.peer) > 0:  # to kill 0 is to kill ourselves
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        self._writer.close()


async def end_keeper(wire: Wire, path: Path, grace: float, hurry: asyncio.Event) -> None:
    """Ends the keeper of an earlier router and its engine; one that does not answer is killed."""
    hurried = asyncio.ensure_future(hurry.wait())
    try:
        ended = asyncio.ensure_future(wire.receive("exit"))
        wire.send({"op": "stop", "grace": grace})
        await asyncio.wait((ended, hurried), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            wire.send({"op": "stop", "grace": 0})
        await asyncio.wait_for(ended, KILL_WAIT + STUCK)
    except TimeoutError:
        wire.kill_peer()
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - nothing waits on a disk here
    finally:
        hurried.cancel()
        wire.close()

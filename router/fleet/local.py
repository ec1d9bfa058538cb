"""Engines on this machine, each under a keeper: a process of its own that outlives a crash of the router."""

import asyncio
import json
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from router.fleet.files import Files
from router.fleet.orphans import MARKER, kill_marked
from router.fleet.runtime import Exit, Start, StartFailed

KEEPER = Path(__file__).with_name("keeper.py")
KILL_WAIT = 10.0
"""Seconds the keeper waits for the kernel to end what was killed."""
RENEW = 2.0
"""Seconds between two renewals of a lease."""


class Local:
    """`orphan_grace` is how long in seconds an engine outlives a router that was killed."""

    def __init__(self, files: Files, *, orphan_grace: float, log_max_size: int, log_keep: int) -> None:
        self.files, self.log_max_size, self.log_keep = files, log_max_size, log_keep
        self.lease = orphan_grace + 2 * RENEW

    async def start(self, start: Start) -> "LocalRun":
        socket = self.files.socket(start.model, start.replica)
        mark = f"{self._mark}{secrets.token_hex(8)}"
        spec = {
            "argv": start.argv,
            "env": {**start.env, MARKER: mark},
            "cwd": str(self.files.state_dir),
            "socket": str(socket),
            "log": str(self.files.log(start.model, start.replica)),
            "log_max_bytes": self.log_max_size,
            "log_keep": self.log_keep,
            "lease": self.lease,
            "grace": start.grace,
            "kill_wait": KILL_WAIT,
        }
        keeper = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(KEEPER),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        reply = await _tell(keeper, spec)
        if "error" in reply:
            await keeper.wait()
            raise StartFailed(reply["error"])
        try:
            reader, writer = await asyncio.open_unix_connection(str(socket))
        except OSError:
            raise StartFailed("its keeper ended at once") from None
        return LocalRun(reply["engine"], keeper, socket, mark, reader, writer)

    async def clear(self, grace: float) -> list[int]:
        keepers = [_end_keeper(socket, grace) for socket in self.files.run.glob("*.sock")]
        await asyncio.gather(*keepers)
        return await asyncio.to_thread(kill_marked, self._mark)

    @property
    def _mark(self) -> str:
        return f"{self.files.state_dir}#"


class LocalRun:
    """One engine, by way of its keeper's socket."""

    def __init__(
        self,
        pid: int,
        keeper: asyncio.subprocess.Process,
        socket: Path,
        mark: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = pid
        self._keeper, self._socket, self._mark = keeper, socket, mark
        self._reader, self._writer = reader, writer

    async def look(self) -> tuple[list[int], str]:
        try:
            status = await _ask(self._socket, {"op": "status"})
        except OSError:
            return [], ""
        return status.get("tree", []), status.get("last_line", "")

    async def ended(self) -> Exit:
        while True:
            self._send({"op": "renew"})
            try:
                async with asyncio.timeout(RENEW):
                    message = await self._receive("event")
            except TimeoutError:
                continue
            return await self._finish(message)

    async def stop(self, grace: float) -> Exit:
        self._send({"op": "stop", "grace": grace})
        return await self._finish(await self._receive("exit"))

    async def kill(self) -> None:
        with suppress(OSError):
            await _ask(self._socket, {"op": "stop", "grace": 0})

    async def _finish(self, message: dict[str, Any] | None) -> Exit:
        self._writer.close()
        await self._keeper.wait()
        if message is None:
            return await self._keeper_lost()
        return Exit(message["exit"], message.get("tail", ""), tuple(message["left"]))

    async def _keeper_lost(self) -> Exit:
        """Somebody killed the keeper; what it kept is still known by the mark it carries."""
        self._socket.unlink(missing_ok=True)
        await asyncio.to_thread(kill_marked, self._mark, self.pid)
        return Exit(None, "its keeper was killed")

    def _send(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _receive(self, key: str) -> dict[str, Any] | None:
        """The next message that has `key`; None if the keeper is gone."""
        while True:
            try:
                line = await self._reader.readline()
            except ConnectionError:
                line = b""
            message: dict[str, Any] | None = json.loads(line) if line else None
            if message is None or key in message:
                return message


async def _tell(keeper: asyncio.subprocess.Process, spec: dict[str, Any]) -> dict[str, Any]:
    """Hands the keeper its spec; its first and only line."""
    assert keeper.stdin is not None  # noqa: S101 - both are pipes
    assert keeper.stdout is not None  # noqa: S101
    try:
        keeper.stdin.write(json.dumps(spec).encode())
        keeper.stdin.close()
        line = await keeper.stdout.readline()
    except ConnectionError:
        line = b""
    reply: dict[str, Any] = json.loads(line) if line else {"error": "its keeper ended at once"}
    return reply


async def _ask(socket: Path, request: dict[str, Any]) -> dict[str, Any]:
    """One request on a connection of its own. Raises OSError."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        line = await reader.readline()
    finally:
        writer.close()
    return json.loads(line) if line else {}


async def _end_keeper(socket: Path, grace: float) -> None:
    try:
        await _ask(socket, {"op": "stop", "grace": grace})
    except OSError:
        socket.unlink(missing_ok=True)  # its keeper is gone

"""Engines on this machine, each under a keeper: a process of its own that outlives a crash of the router."""

import asyncio
import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from router.fleet.files import Files
from router.fleet.handle import Handle
from router.fleet.kept import Kept, Terms
from router.fleet.orphans import KEEPS_ENVIRONMENT, MARKER, kill_marked
from router.fleet.runtime import Run, Start, StartFailed
from router.fleet.wire import KILL_WAIT, Wire, end_keeper

KEEPER = Path(__file__).with_name("keeper.py")
START_WAIT = 30.0
"""Seconds in which a keeper has started its engine."""


class Local:
    """Engines work in the folder `cwd`. `terms` and the two for logs hold for what is started from then on; renewals of
    a lease bring new terms to what runs."""

    def __init__(self, files: Files, cwd: Path, terms: Terms, *, log_max_size: int, log_keep: int) -> None:
        self.files, self.cwd, self.terms, self.log_max_size, self.log_keep = files, cwd, terms, log_max_size, log_keep

    async def start(self, start: Start) -> Run:
        name = secrets.token_hex(8)
        path, mark = self.files.socket(name), self._mark(name)
        try:
            self.files.make()  # somebody may have tidied up
            keeper, reply = await asyncio.to_thread(_launch, self._spec(start, path, mark), mark)
        except OSError as error:
            raise StartFailed(f"cannot start a keeper: {error.strerror or error}") from None
        if "error" in reply:
            await self._undo(keeper, mark)
            raise StartFailed(reply["error"])
        try:
            return await Kept.open(Handle(keeper.pid, keeper), path, mark, reply["engine"], self.terms)
        except OSError as error:
            await self._undo(keeper, mark)
            raise StartFailed(f"its keeper cannot be reached: {error.strerror or error}") from None

    async def _undo(self, keeper: "subprocess.Popen[bytes]", mark: str) -> None:
        keeper.kill()
        await asyncio.to_thread(keeper.wait)
        await asyncio.to_thread(kill_marked, mark)

    def _mark(self, name: str) -> str:
        return f"{self.files.identity}{name}"

    def _spec(self, start: Start, path: Path, mark: str) -> dict[str, Any]:
        return {
            "argv": start.argv,
            "env": {**KEEPS_ENVIRONMENT, **start.env, MARKER: mark},
            "cwd": str(self.cwd),
            "socket": str(path),
            "log": str(self.files.log(start.model, start.replica)),
            "log_max_bytes": self.log_max_size,
            "log_keep": self.log_keep,
            "lease": self.terms.lease,
            "orphan_grace": self.terms.orphan_grace,
            "grace": start.grace,
            "kill_wait": KILL_WAIT,
            "note": start.note,
        }

    async def find(self) -> Sequence["Remains"]:
        found = await asyncio.gather(*(self._meet(path) for path in self.files.run.glob("*.sock")))
        return [remains for remains in found if remains is not None]

    async def _meet(self, path: Path) -> "Remains | None":
        """Who does not answer is killed, and what it kept is for `sweep`."""
        try:
            wire = await Wire.open(path)
        except OSError:  # its keeper is gone
            _remove(path)
            return None
        try:
            status = await wire.ask("status", "tree")
            answer = await wire.ask("note", "note")
            if status is not None and answer is not None:
                return Remains(path, self._mark(path.stem), wire, status, answer["note"], self.terms)
        except (TimeoutError, KeyError, TypeError, ValueError):
            pass  # stuck, or no keeper of this kind
        wire.kill_peer()
        wire.close()
        _remove(path)
        return None

    async def sweep(self, spared: Collection[str]) -> None:
        await asyncio.to_thread(kill_marked, self.files.identity, None, {self._mark(name) for name in spared})


class Remains:
    """The run of an earlier router."""

    def __init__(
        self, path: Path, mark: str, wire: Wire, status: Mapping[str, Any], note: Mapping[str, Any], terms: Terms
    ) -> None:
        self.name, self.note, self.since = path.stem, note, float(status["started"])
        self.running = status["state"] == "running"
        self._engine, self._grace = int(status["engine"]), float(status["grace"])
        self._path, self._mark, self._wire, self._terms = path, mark, wire, terms

    async def adopt(self) -> Run:
        self._wire.close()
        return await Kept.open(None, self._path, self._mark, self._engine, self._terms)

    async def end(self, hurry: asyncio.Event) -> None:
        await end_keeper(self._wire, self._path, self._grace, hurry)


def _remove(socket: Path) -> None:
    with suppress(OSError):
        socket.unlink()


def _launch(spec: dict[str, Any], mark: str) -> tuple["subprocess.Popen[bytes]", dict[str, Any]]:
    """A keeper that was handed its spec, and its first and only line. Not asyncio's kind of process, which would kill
    its child with itself. Raises OSError."""
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", str(KEEPER)], env={**os.environ, MARKER: mark},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert keeper.stdin is not None  # noqa: S101 - both are pipes
    assert keeper.stdout is not None  # noqa: S101
    with keeper.stdout as output:
        with suppress(BrokenPipeError), keeper.stdin as pipe:
            pipe.write(json.dumps(spec).encode())
        line = _first_line(output.fileno(), time.monotonic() + START_WAIT)
    if not line.endswith(b"\n"):
        return keeper, {"error": "its keeper did not start"}
    reply: dict[str, Any] = json.loads(line)
    return keeper, reply


def _first_line(fd: int, deadline: float) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (left := deadline - time.monotonic()) > 0:
        if not select.select([fd], [], [], left)[0] or not (data := os.read(fd, 4096)):
            break
        line += data
    return line

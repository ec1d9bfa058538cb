"""Engines on this machine, each under a keeper: a process of its own that outlives a crash of the router."""

import asyncio
import json
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from router.fleet.files import Files
from router.fleet.orphans import KEEPS_ENVIRONMENT, MARKER, kill_marked
from router.fleet.runtime import Exit, Start, StartFailed
from router.fleet.wire import KILL_WAIT, STUCK, Wire, end_keeper

KEEPER = Path(__file__).with_name("keeper.py")
RENEW = 2.0
"""Seconds between two renewals of a lease."""
START_WAIT = 30.0
"""Seconds in which a keeper has started its engine."""


class Local:
    """`orphan_grace` is how long in seconds an engine outlives a router that was killed. Engines work in the folder
    `cwd`."""

    def __init__(self, files: Files, cwd: Path, *, orphan_grace: float, log_max_size: int, log_keep: int) -> None:
        self.files, self.cwd, self.log_max_size, self.log_keep = files, cwd, log_max_size, log_keep
        self.lease = orphan_grace + 2 * RENEW

    async def start(self, start: Start) -> "LocalRun":
        mark = f"{self.files.identity}{secrets.token_hex(8)}"
        path = self.files.socket(start.model, start.replica)
        try:
            self.files.make()  # somebody may have tidied up
            if path.exists():
                await end_keeper(path, 0, asyncio.Event())
            keeper = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(KEEPER), env={**os.environ, MARKER: mark},
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise StartFailed(f"cannot start a keeper: {error.strerror or error}") from None
        reply = await _tell(keeper, self._spec(start, path, mark))
        if "error" in reply:
            await keeper.wait()
            await asyncio.to_thread(kill_marked, mark)
            raise StartFailed(reply["error"])
        try:
            events = await Wire.open(path)
            try:
                requests = await Wire.open(path)
            except OSError:
                events.close()
                raise
        except OSError as error:
            _kill(keeper)
            await keeper.wait()
            await asyncio.to_thread(kill_marked, mark)
            raise StartFailed(f"its keeper cannot be reached: {error.strerror or error}") from None
        return LocalRun(reply["engine"], keeper, path, mark, events, requests)

    def _spec(self, start: Start, path: Path, mark: str) -> dict[str, Any]:
        return {
            "argv": start.argv,
            "env": {**KEEPS_ENVIRONMENT, **start.env, MARKER: mark},
            "cwd": str(self.cwd),
            "socket": str(path),
            "log": str(self.files.log(start.model, start.replica)),
            "log_max_bytes": self.log_max_size,
            "log_keep": self.log_keep,
            "lease": self.lease,
            "grace": start.grace,
            "kill_wait": KILL_WAIT,
        }

    async def clear(self, grace: float, hurry: asyncio.Event) -> None:
        keepers = [end_keeper(path, grace, hurry) for path in self.files.run.glob("*.sock")]
        await asyncio.gather(*keepers)
        await asyncio.to_thread(kill_marked, self.files.identity)


class LocalRun:
    """One engine, by way of its keeper: `events` tells the end and nothing is asked there but to stop, so that no
    failed write can cost the last message; `requests` is for the rest."""

    def __init__(
        self, pid: int, keeper: asyncio.subprocess.Process, path: Path, mark: str, events: Wire, requests: Wire
    ) -> None:
        self.pid = pid
        self._keeper, self._path, self._mark = keeper, path, mark
        self._events, self._requests = events, requests
        self._deadline: asyncio.TimerHandle | None = None
        """Kills the keeper when it has had all its time to end the engine."""
        self._root = None
        with suppress(psutil.NoSuchProcess):
            self._root = psutil.Process(pid)

    async def look(self) -> tuple[list[int], str]:
        try:
            status = await self._requests.ask("status", "tree")
        except TimeoutError:
            status = None
        return (status["tree"], status["last_line"]) if status else ([], "")

    async def exited(self) -> None:
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        except OSError:  # Linux before 5.3: `ended` tells it too, when all that was left is gone
            await asyncio.Event().wait()
            return
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(handle, gone.set)  # the handle of a process is readable once it has ended
        try:
            await gone.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)

    async def ended(self) -> Exit:
        renewing = asyncio.ensure_future(self._renew())
        message = await self._events.receive("exit")
        renewing.cancel()
        self._events.close()
        self._requests.close()
        if message is None:
            self._kill_keeper()
        await self._keeper.wait()
        if self._deadline is not None:
            self._deadline.cancel()
        if message is None:
            return await self._keeper_lost()
        return Exit(message["exit"], _words(message), tuple(message["left"]))

    def stop(self, grace: float) -> None:
        self._events.send({"op": "stop", "grace": grace})
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace + KILL_WAIT + STUCK
        if self._deadline is None or deadline < self._deadline.when():
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = loop.call_at(deadline, self._kill_keeper)

    async def _renew(self) -> None:
        while True:
            with suppress(TimeoutError):
                await self._requests.ask("renew", "ok")
            await asyncio.sleep(RENEW)

    def _kill_keeper(self) -> None:
        _kill(self._keeper)

    async def _keeper_lost(self) -> Exit:
        """Somebody killed the keeper; what it kept is still known by the mark it carries."""
        self._path.unlink(missing_ok=True)
        await asyncio.to_thread(kill_marked, self._mark, self._root)
        return Exit(None, "its keeper was killed")


def _words(message: dict[str, Any]) -> str:
    """The engine's last ones, unless it was ended for a reason that it cannot know."""
    reasons = {
        "lease": "the router was halted for longer than `orphan_grace`, and its keeper ended it",
        "signal": "somebody told its keeper to end it",
    }
    tail: str = message.get("tail", "")
    return reasons.get(message.get("reason", ""), tail)


def _kill(keeper: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        keeper.kill()


async def _tell(keeper: asyncio.subprocess.Process, spec: dict[str, Any]) -> dict[str, Any]:
    """Hands the keeper its spec; its first and only line."""
    assert keeper.stdin is not None  # noqa: S101 - both are pipes
    assert keeper.stdout is not None  # noqa: S101
    try:
        async with asyncio.timeout(START_WAIT):
            keeper.stdin.write(json.dumps(spec).encode())
            keeper.stdin.close()
            line = await keeper.stdout.readline()
    except (ConnectionError, TimeoutError):
        line = b""
    if not line.endswith(b"\n"):
        _kill(keeper)
        return {"error": "its keeper did not start"}
    reply: dict[str, Any] = json.loads(line)
    return reply

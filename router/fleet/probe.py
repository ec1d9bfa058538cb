"""Whether an engine can serve: what it answers, and whether the port is its own."""

import asyncio
from collections.abc import Iterable

import msgspec
import psutil

from launchers.base import Probe


class Never(Exception):
    """By its answer to a probe the engine will not get ready. The message says what it answered."""


_JSON = "Content-Type: application/json\r\nContent-Length: "
_REFUSED = (400, 422)


class Question(msgspec.Struct, frozen=True):
    """A request in JSON to the engine's own `path`."""

    path: str
    body: bytes
    key: str


async def ready(probe: Probe, port: int, key: str, patience: float | None = None) -> bool:
    """Of the answer only the status counts. `patience` in place of the probe's own, in seconds. Raises Never.

    No HTTP library: the import of one would be a fifth of the time that the router adds to an engine's start, and the
    environment's proxies are not for engines.
    """
    authorization = _authorization(key) if probe.key else ""
    method, length = ("POST", f"{_JSON}{len(probe.body)}\r\n") if probe.body else ("GET", "")
    status = await _status(
        f"{method} {probe.path}", authorization + length, probe.body, port, patience or probe.patience
    )
    if status in probe.never:
        raise Never(f"it answered {method} {probe.path} with {status}")
    return status in probe.statuses


async def answers(question: Question, port: int, patience: float) -> bool:
    """Whether the answer is a success, or says that this model is not for such questions, which no new start changes: a
    base model cannot chat, and a classifier cannot rank."""
    more = f"{_authorization(question.key)}{_JSON}{len(question.body)}\r\n"
    return await _status(f"POST {question.path}", more, question.body, port, patience) in (200, *_REFUSED)


def _authorization(key: str) -> str:
    return f"Authorization: Bearer {key}\r\n"


async def _status(line: str, more: str, body: bytes, port: int, patience: float) -> int:
    """0 where there is no answer in time, or it is not HTTP."""
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                head = f"{line} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}Connection: close\r\n\r\n"
                writer.write(head.encode() + body)
                version, _, rest = (await reader.readline()).partition(b" ")
                return int(rest[:3]) if version.startswith(b"HTTP/1.") else 0
            finally:
                writer.close()
    except (OSError, ValueError):
        return 0


def listens(pids: Iterable[int], port: int) -> bool:
    """Whether one of the processes listens on `port`."""
    for pid in pids:
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except (psutil.Error, OSError):  # OSError: no descriptor is left
            continue
        if any(c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port for c in connections):
            return True
    return False

"""Whether an engine can serve: the probe answers, and the port is the engine's own."""

import asyncio
from collections.abc import Iterable

import psutil

from launchers.base import Probe

TIMEOUT = 5.0
"""Seconds for the answer to a probe."""


async def ready(probe: Probe, port: int, key: str) -> bool:
    """One question, of whose answer only the status counts. No HTTP library: the import of one would be a fifth of the
    time that the router adds to an engine's start, and the environment's proxies are not for engines."""
    try:
        async with asyncio.timeout(TIMEOUT):
            return await _status(probe, port, key) in probe.statuses
    except (OSError, ValueError):  # ValueError: what answers does not speak HTTP
        return False


async def _status(probe: Probe, port: int, key: str) -> int:
    """Raises OSError, ValueError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        authorization = f"Authorization: Bearer {key}\r\n" if probe.key else ""
        head = f"GET {probe.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{authorization}Connection: close\r\n\r\n"
        writer.write(head.encode())
        version, _, rest = (await reader.readline()).partition(b" ")
        if not version.startswith(b"HTTP/1."):
            raise ValueError("not HTTP")
        return int(rest[:3])
    finally:
        writer.close()


def listens(pids: Iterable[int], port: int) -> bool:
    """Whether one of the processes listens on `port`."""
    for pid in pids:
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except psutil.Error:
            continue
        if any(c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port for c in connections):
            return True
    return False

"""Whether an engine can serve: the probe answers, and the port is the engine's own."""

from collections.abc import Iterable

import httpx2
import psutil

from launchers.base import Probe

TIMEOUT = 5.0
"""Seconds for one answer to a probe."""


class Prober:
    """Asks engines. One client for all of them."""

    def __init__(self) -> None:
        self._client = httpx2.AsyncClient(timeout=TIMEOUT, trust_env=False, verify=False)

    async def ready(self, probe: Probe, port: int, key: str) -> bool:
        headers = {"authorization": f"Bearer {key}"} if probe.key else {}
        try:
            answer = await self._client.get(f"http://127.0.0.1:{port}{probe.path}", headers=headers)
        except httpx2.HTTPError:
            return False
        return answer.status_code in probe.statuses

    async def close(self) -> None:
        await self._client.aclose()


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

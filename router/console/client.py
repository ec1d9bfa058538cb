"""The commands' end of the running router's unix socket."""

import os

import httpx2
import msgspec

from router.fleet.rows import Info, Row

SOCKET = "router.sock"


class NotRunning(Exception):
    """No router answers in the state folder."""


class Client:
    """The other end, for the commands. Raises NotRunning."""

    def __init__(self, state_dir: os.PathLike[str]) -> None:
        self.socket = os.path.join(state_dir, SOCKET)

    def info(self) -> Info:
        return msgspec.json.decode(self._ask("GET", "/info"), type=Info)

    def rows(self) -> list[Row]:
        return msgspec.json.decode(self._ask("GET", "/engines"), type=list[Row])

    def stop(self) -> None:
        self._ask("POST", "/stop")

    def _ask(self, method: str, path: str) -> bytes:
        transport = httpx2.HTTPTransport(uds=self.socket)
        try:
            with httpx2.Client(transport=transport, base_url="http://router", timeout=10) as client:
                return client.request(method, path).raise_for_status().content
        except httpx2.TransportError as error:
            raise NotRunning(f"no router runs in {os.path.dirname(self.socket)}") from error

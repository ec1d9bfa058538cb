"""The commands' end of the running router's unix socket."""

import http.client
import os
import socket

import msgspec

from router.fleet.rows import Info, Row

SOCKET = "router.sock"
TIMEOUT = 10.0
"""Seconds for an answer: the router is at hand, and has none that takes long."""


class NotRunning(Exception):
    """No router answers in the state folder. The message says why, for people."""


class Client:
    """The other end, for the commands. Raises NotRunning."""

    def __init__(self, state_dir: os.PathLike[str]) -> None:
        self.state_dir = os.fspath(state_dir)

    def info(self) -> Info:
        return msgspec.json.decode(self._ask("GET", "/info"), type=Info)

    def rows(self) -> list[Row]:
        return msgspec.json.decode(self._ask("GET", "/engines"), type=list[Row])

    def stop(self, *, now: bool = False) -> None:
        self._ask("POST", "/kill" if now else "/stop")

    def _ask(self, method: str, path: str) -> bytes:
        connection = _Connection(os.path.join(self.state_dir, SOCKET))
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        except (FileNotFoundError, ConnectionError):
            raise NotRunning(f"no router runs in {self.state_dir}") from None
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(f"the router in {self.state_dir} does not answer: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise NotRunning(f"the router in {self.state_dir} answers {answer.status}; is it of another version?")
        return body


class _Connection(http.client.HTTPConnection):
    """HTTP by way of a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("router", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)

"""The commands' end of the running router's unix socket."""

import os
import socket
from typing import Any

import msgspec

from router.fleet.rows import Info, Plan, Row

SOCKET = "router.sock"
TIMEOUT = 10.0
"""Seconds for an answer: the router is at hand, and has none that takes long but …"""
CHECK_TIMEOUT = 60.0
"""… those for which it reads and checks a file."""


class NotRunning(Exception):
    """No router answers in the state folder. The message says why, for people."""


class Silent(NotRunning):
    """One runs and does not answer."""


class Declined(Exception):
    """The router runs and does not do what was asked. The message says why, for people."""


class Client:
    """The other end, for the commands. Raises NotRunning."""

    def __init__(self, state_dir: os.PathLike[str], patience: float = TIMEOUT) -> None:
        self.state_dir, self._patience = os.fspath(state_dir), patience

    def info(self) -> Info:
        return msgspec.json.decode(self._ask("GET", "/info"), type=Info)

    def rows(self) -> list[Row]:
        return msgspec.json.decode(self._ask("GET", "/engines"), type=list[Row])

    def stop(self, *, now: bool = False) -> None:
        self._ask("POST", "/kill" if now else "/stop")

    def plan(self, file: os.PathLike[str]) -> Plan:
        """Raises Declined."""
        return msgspec.json.decode(self._ask("POST", "/plan", {"path": os.fspath(file)}, CHECK_TIMEOUT), type=Plan)

    def apply(self, file: os.PathLike[str]) -> Plan:
        """Raises Declined; then nothing has changed."""
        return msgspec.json.decode(self._ask("POST", "/apply", {"path": os.fspath(file)}, CHECK_TIMEOUT), type=Plan)

    def hand_over(self, socket: os.PathLike[str]) -> None:
        """To whoever listens there."""
        self._ask("POST", "/takeover", {"path": os.fspath(socket)})

    @property
    def _path(self) -> str:
        return os.path.join(self.state_dir, SOCKET)

    def _who(self) -> str:
        """As the lock says it."""
        try:
            with open(os.path.join(self.state_dir, "router.lock"), encoding="ascii") as lock:
                return f" (pid {lock.read().split()[0]})"
        except (OSError, IndexError, UnicodeDecodeError):
            return ""

    def _knock(self) -> None:
        """httpx2 leaves the socket open when nobody answers, and takes its time to import."""
        with socket.socket(socket.AF_UNIX) as knock:
            try:
                knock.connect(self._path)
            except OSError:
                raise NotRunning(f"no router runs in {self.state_dir}") from None

    def _ask(self, method: str, path: str, body: Any = None, patience: float | None = None) -> bytes:
        self._knock()
        import httpx2  # noqa: PLC0415 - the router shares this module's names, and has no use for the library

        transport = httpx2.HTTPTransport(uds=self._path)
        try:
            with httpx2.Client(
                transport=transport, base_url="http://router", timeout=patience or self._patience
            ) as client:
                answer = client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise Silent(f"the router{self._who()} in {self.state_dir} does not answer: {error}") from None
        if answer.status_code == 409:
            raise Declined(answer.text)
        if answer.status_code != 200:
            what = "see its log" if answer.status_code == 500 else "is it of another version?"
            raise Silent(f"the router{self._who()} in {self.state_dir} answers {answer.status_code}; {what}")
        return answer.content

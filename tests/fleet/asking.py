"""Clients of a router that changes: those who ask one question after the other, and one who reads a stream."""

import http.client
import json
import threading
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from running import DEADLINE, until


class Client:
    """One connection, or one a request where it is not `kept`."""

    def __init__(self, address: str, model: str = "m", *, key: str = "", kept: bool = True) -> None:
        url = urlsplit(address)
        self.connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=DEADLINE)
        self.model, self.kept = model, kept
        self.headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})

    def send(self, path: str = "/v1/chat/completions", **fields: Any) -> http.client.HTTPResponse:
        """The answer's head has come."""
        self.connection.request("POST", path, json.dumps({"model": self.model, "messages": [], **fields}), self.headers)
        return self.connection.getresponse()

    def ask(self, path: str = "/v1/chat/completions", **fields: Any) -> tuple[int, bytes]:
        """Status and body of an answer that ends."""
        with self.send(path, **fields) as answer:
            found = answer.status, answer.read()
        if not self.kept:
            self.connection.close()
        return found


def ask(address: str, model: str = "m", path: str = "/v1/chat/completions", key: str = "") -> tuple[int, bytes]:
    return Client(address, model, key=key, kept=False).ask(path)


def asks(address: str, model: str = "m", key: str = "") -> int:
    """The status alone; 0 where nobody listens."""
    try:
        return ask(address, model, key=key)[0]
    except OSError:
        return 0


class Steady:
    """Clients that ask until the block ends, half of them on connections that they keep. `pids`: who answered, as the
    engine's --short says it, the last one last; `faults`: whatever else a client was told."""

    def __init__(self, address: str, model: str = "m", clients: int = 4) -> None:
        self.pids: list[int] = []
        self.faults: list[str] = []
        self._enough = threading.Event()
        self._clients = [Client(address, model, kept=number % 2 == 0) for number in range(clients)]
        self._threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in self._clients]

    def __enter__(self) -> "Steady":
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _where: TracebackType | None) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(DEADLINE)
        assert kind or not any(thread.is_alive() for thread in self._threads), "a request was never answered"

    def _run(self, client: Client) -> None:
        while not self._enough.wait(0.005):
            try:
                status, body = client.ask()
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(repr(error))
                client.connection.close()
                continue
            if status == 200:
                self.pids.append(int(body))
            else:
                self.faults.append(f"{status} {body!r}")
        client.connection.close()

    def more(self, answers: int = 20) -> None:
        """Until so many more have come."""
        wanted = len(self.pids) + answers
        until(lambda: len(self.pids) >= wanted or self.faults)

    def answered_by(self, pid: int) -> None:
        """Until it has answered."""
        until(lambda: pid in self.pids[-100:] or self.faults)


class Stream(threading.Thread):
    """A client that reads a stream to its end. `fault`: why it has not seen that."""

    def __init__(self, address: str, model: str = "m") -> None:
        super().__init__(daemon=True)
        self.text = b""
        self.fault = ""
        self._client = Client(address, model)
        self.start()
        self.more()

    def run(self) -> None:
        try:
            with self._client.send(stream=True) as answer:
                while line := answer.readline():
                    self.text += line
        except (OSError, http.client.HTTPException) as error:
            self.fault = repr(error)
        self._client.connection.close()

    def more(self, events: int = 3) -> None:
        """Until so many more have come."""
        wanted = self.text.count(b"data: ") + events
        until(lambda: self.text.count(b"data: ") >= wanted or not self.is_alive())
        assert self.is_alive(), self.text[-200:] + self.fault.encode()

    def ended(self) -> bool:
        """Whether it came to its proper end, once it has one."""
        self.join(DEADLINE)
        return not self.is_alive() and not self.fault and self.text.endswith(b"data: [DONE]\n\n")

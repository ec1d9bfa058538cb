"""HTTP as bytes: a request exactly as given, and a wire to an engine that remembers what was asked over it."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

TIMEOUT = 60.0


class Answer:
    """`headers` by their names in lower case."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """Of the router's own errors."""
        error = self.json.get("error")
        return error.get("code") if isinstance(error, dict) else None


def send(port: int, request: bytes) -> Answer:
    """The answer to a request's bytes, on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection, method=request.split(b" ", 1)[0].decode())
        response.begin()
        return Answer(response)


def ask(port: int, path: str, body: object = None, *headers: str, method: str = "") -> Answer:
    """`body`: a value for JSON, or bytes as they are. `headers`: whole lines, over a client's usual ones."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method or ('POST' if content else 'GET')} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        *headers,
        *([f"Content-Length: {len(content)}"] if content else []),
        *(["Content-Type: application/json"] if content and not isinstance(body, bytes) else []),
    ]
    return send(port, "\r\n".join([*lines, "", ""]).encode() + content)


def bearer(key: str) -> str:
    return f"Authorization: Bearer {key}"


class Wire:
    """Listens on `port`, passes everything on to an engine's port and back, and remembers what was asked."""

    def __init__(self, engine_port: int) -> None:
        self._engine_port = engine_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._asked: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def asked(self) -> bytes:
        """All that was sent to the engine since the last time."""
        asked, self._asked = b"".join(self._asked), []
        return asked

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._engine_port))
                threading.Thread(target=self._pump, args=(near, far, self._asked.append), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, len), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, remember: Any) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                remember(data)
                sink.sendall(data)
        for side in (source, sink):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()


@contextmanager
def wired(engine_port: int) -> Iterator[Wire]:
    wire = Wire(engine_port)
    try:
        yield wire
    finally:
        wire.close()

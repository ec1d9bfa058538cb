"""A wire tap between a router and an engine: a TCP relay that remembers what the engine sent."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httptools


class Tap:
    """Listens on `port`, and passes everything on to an engine's port and back."""

    def __init__(self, engine_port: int) -> None:
        self._engine_port = engine_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._heard: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def bodies(self) -> bytes:
        """The bodies of the answers that the engine sent since the last time, without HTTP's framing."""
        heard, self._heard = b"".join(self._heard), []
        return _Body(heard).body

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._engine_port))
                threading.Thread(target=self._pump, args=(near, far), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, listen: bool = False) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if listen:
                    self._heard.append(data)
                sink.sendall(data)
        for side in (source, sink):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()


class _Body:
    """The bodies in the bytes of one connection's answers."""

    def __init__(self, heard: bytes) -> None:
        self.body = b""
        httptools.HttpResponseParser(self).feed_data(heard)

    def on_body(self, data: bytes) -> None:
        self.body += data


@contextmanager
def tapped(engine_port: int) -> Iterator[Tap]:
    tap = Tap(engine_port)
    try:
        yield tap
    finally:
        tap.close()

"""One HTTP request on a socket of its own: what comes, as it comes. A client library would buffer and be polite."""

import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httptools

TIMEOUT = 60.0


class Request:
    """A POST that has been sent. `reads` gives the answer's body in the pieces in which it arrives."""

    def __init__(self, port: int, path: str, body: dict[str, Any], key: str = "any") -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        document = json.dumps(body).encode()
        self._socket.sendall(
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(document)}\r\n\r\n".encode()
            + document
        )

    def __enter__(self) -> "Request":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """The client goes away, without a word."""
        self._socket.close()

    def reads(self) -> Iterator[tuple[float, bytes]]:
        """(when it came in seconds, the body's bytes in it): one read of the socket each that had any."""
        while not self.ended:
            data = self._socket.recv(1 << 20)
            now = time.perf_counter()
            assert data, "the answer broke off"
            self._parser.feed_data(data)
            if self._body:
                piece, self._body = self._body, b""
                yield now, piece

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(piece for _, piece in self.reads())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        self.ended = True


def post(port: int, path: str, body: dict[str, Any], key: str = "any") -> bytes:
    """The body of an answer that has to be 200."""
    with Request(port, path, body, key) as request:
        answer = request.read()
    assert request.status == 200, answer
    return answer


def events(stream: bytes) -> list[bytes]:
    """The events of a whole stream, each with the blank line that ends it."""
    found = re.findall(rb".*?\n\n", stream, re.DOTALL)
    assert b"".join(found) == stream, "the stream does not end with a blank line"
    return found


# What differs between two runs of one request on one engine, however equal they are: ids, clocks and measurements.
_VOLATILE = [
    (re.compile(rb'"(id|item_id|response_id|request_id)":\s*"[^"]*"'), rb'"\1":"-"'),
    (re.compile(rb'"(created|created_at|completed_at)":\s*[0-9.]+'), rb'"\1":0'),
    (re.compile(rb'"timings":\s*\{[^{}]*\}'), rb'"timings":{}'),
]


def normal(answer: bytes) -> bytes:
    """The answer, byte for byte, but for what no two runs have in common."""
    for pattern, replacement in _VOLATILE:
        answer = pattern.sub(replacement, answer)
    return answer

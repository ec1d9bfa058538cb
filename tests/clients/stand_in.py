"""A server in place of the engines that cannot run here: it hears one sentence in every sound, and says every text in
the same bytes. It remembers what it was asked."""

import email.policy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HEARD = "the quick brown fox"
SOUND = bytes(range(256)) * 64


class StandIn(ThreadingHTTPServer):
    """`fields`: of each request what it had in its JSON, or in its form (files as bytes), with `path` among them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fields: list[dict[str, Any]] = []
        self.port: int = self.server_address[1]


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self._body()
        form = self.headers.get_content_type() == "multipart/form-data"
        fields = self._form(body) if form else json.loads(body)
        self.server.fields.append(fields | {"path": self.path})
        if form:
            self._answer("application/json", json.dumps({"text": HEARD, "duration": 1.0, "language": "en"}).encode())
        else:
            self._answer("audio/mpeg", SOUND)

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers["Content-Length"]))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _form(self, body: bytes) -> dict[str, Any]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = BytesParser(policy=email.policy.HTTP).parsebytes(head + body).iter_parts()
        found = {}
        for part in parts:
            value = part.get_payload(decode=True)
            assert isinstance(value, bytes)
            name = str(part.get_param("name", header="content-disposition"))
            found[name] = value if part.get_filename() else value.decode()
        return found

    def _answer(self, kind: str, body: bytes) -> None:
        """In chunks, as an engine that makes it bit by bit."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(body), 4096):
            piece = body[at : at + 4096]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Not to the tests' output."""


@contextmanager
def standing_in() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

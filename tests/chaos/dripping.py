"""An engine of few words: `python dripping.py --port P` speaks OpenAI's chat API, a word every 25 ms. Standard library.

Its answer turns with the first number in the question, so that no two questions have the same one. It prints a line for
each request. With `--leave NAME` it holds a file of shared memory that begins so, and has forked a child that ignores
SIGTERM: what a real engine leaves behind when it is killed.
"""

import argparse
import json
import mmap
import os
import re
import signal
import socketserver
import sys
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SENTENCE = "drop by drop the water hollows out the hardest stone not by its force but by falling often"
WORDS = SENTENCE.split()
PAUSE = 0.025
LINE = "." * 160


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.answer("text/plain", b"")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        sys.stdout.write(f"asked {LINE}\n")
        sys.stdout.flush()
        head = {"id": f"drip-{uuid.uuid4().hex}", "created": int(time.time()), "model": "dripping"}
        if asked.get("stream"):
            self.stream(head, words(asked))
        else:
            self.whole(head, words(asked))

    def whole(self, head: dict[str, Any], said: list[str]) -> None:
        time.sleep(PAUSE * len(said) / 4)
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(said)}, "finish_reason": "length"}
        self.answer("application/json", json.dumps({**head, "choices": [choice]}).encode())

    def stream(self, head: dict[str, Any], said: list[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for data in events(head, said):
            event = b"data: %s\n\n" % data
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(PAUSE)
        self.wfile.write(b"0\r\n\r\n")

    def answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without a look at DNS


def words(asked: dict[str, Any]) -> list[str]:
    found = re.search(r"\d+", asked["messages"][-1]["content"])
    first = int(found[0]) if found else 0
    return [f" {WORDS[(first + number) % len(WORDS)]}" for number in range(int(asked["max_tokens"]))]


def events(head: dict[str, Any], said: list[str]) -> Iterator[bytes]:
    for word in said:
        yield json.dumps({**head, "choices": [{"index": 0, "delta": {"content": word}}]}).encode()
    yield json.dumps({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}).encode()
    yield b"[DONE]"


def share(name: str) -> mmap.mmap:
    """Memory that is left behind if nobody tidies up after a SIGKILL."""
    fd = os.open(f"/dev/shm/{name}-{os.getpid()}", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, 4096)
    try:
        return mmap.mmap(fd, 4096)
    finally:
        os.close(fd)


def fork() -> None:
    """A child that is deaf, and outlives its parent unless somebody ends it."""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(allow_abbrev=False)
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--leave", metavar="NAME", help="have something that a SIGKILL leaves behind")
    given = arguments.parse_args()
    if given.leave:
        fork()
        shared = share(given.leave)
    Server(("127.0.0.1", given.port), Handler).serve_forever()

"""A fake engine that serves HTTP, and misbehaves as its flags say. Standard library only.

GET /health answers 200 once it is loaded and 503 before. POST /v1/chat/completions streams `data: N` every 50 ms.

With --faults FOLDER a test says at any moment what goes wrong from then on, by a word in the file of that folder which
is named like this process's pid:

    wedge   connections are taken, nothing is answered, and what is streamed stands still
    fail    500 to everything
    hang    /health as ever, chat is not answered
    broken  /health as ever, 500 to chat
    busy    chat as ever, /health is not answered
"""

import argparse
import json
import os
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STARTED = time.monotonic()


def parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(allow_abbrev=False)
    add = arguments.add_argument
    add("--port", type=int, required=True)
    add("--load", type=float, default=0, metavar="S", help="be ready after S seconds, and answer 503 until then")
    add("--gate", type=Path, metavar="FILE", help="be ready only once there is FILE, and answer 503 until then")
    add("--bind-after", type=float, default=0, metavar="S", help="listen only after S seconds")
    add("--hang", action="store_true", help="take connections while loading, and answer none")
    add("--deaf", action="store_true", help="ignore SIGTERM")
    add("--child", action="store_true", help="fork a child that ignores SIGTERM")
    add("--daemon", action="store_true", help="double-fork a process in a session of its own that ignores SIGTERM")
    add("--exit", type=int, metavar="CODE", help="exit with CODE …")
    add("--after", type=float, default=0, metavar="S", help="… after S seconds")
    add("--once", type=Path, metavar="FILE", help="exit only if FILE does not exist, and make it")
    add("--mute", action="store_true", help="never listen")
    add("--say", help="print this line at the start")
    add("--progress", action="store_true", help="print progress with \\r while loading")
    add("--end", type=Path, metavar="FILE", help="end the streams once there is FILE, with `data: [DONE]`")
    add("--short", action="store_true", help="answer with this process's pid where no stream is asked for")
    add("--slow", type=float, default=0, metavar="S", help="… after S seconds")
    add("--faults", type=Path, metavar="FOLDER", help="misbehave as the file FOLDER/PID says")
    add("--flood", type=int, default=0, metavar="N", help="print N lines of 100 bytes once it is loaded")
    return arguments.parse_args()


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def fork(*, session: bool) -> None:
    """A process that ignores SIGTERM; with a `session` of its own it is nobody's child."""
    if os.fork():
        if session:
            os.wait()
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if session:
        os.setsid()
        if os.fork():
            os._exit(0)
    while True:
        signal.pause()


def loaded() -> bool:
    return time.monotonic() - STARTED >= given.load and (given.gate is None or given.gate.exists())


def fault() -> str:
    """What goes wrong now."""
    try:
        return str((given.faults / str(os.getpid())).read_text()) if given.faults else ""
    except FileNotFoundError:
        return ""


def halt_if(*faults: str) -> None:
    """As long as one of these goes wrong."""
    while fault() in faults:
        time.sleep(0.02)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if given.hang and not loaded():
            time.sleep(1000)
        halt_if("wedge", "busy")
        self.short(500 if fault() == "fail" else 200 if loaded() else 503, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        halt_if("wedge", "hang")
        if fault() in ("fail", "broken"):
            self.short(500, b"it is broken")
        elif given.short and not json.loads(body).get("stream"):
            time.sleep(given.slow)
            self.short(200, b"%d" % os.getpid())
        else:
            self.stream()

    def short(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(100_000):
            halt_if("wedge")
            if given.end and given.end.exists():
                break
            self.chunk(b"data: %d\n\n" % number)
            time.sleep(0.05)
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without a look at DNS


def serve() -> None:
    time.sleep(given.bind_after)
    Server(("127.0.0.1", given.port), Handler).serve_forever()


def leave() -> None:
    """Exits as it was told to."""
    if given.exit is None or (given.once and given.once.exists()):
        return
    time.sleep(given.after)
    if given.once:
        given.once.touch()
    say(f"exiting with {given.exit}")
    os._exit(given.exit)


def chatter() -> None:
    while given.progress and not loaded():
        sys.stdout.write(f"\rloading {min(99, int(100 * (time.monotonic() - STARTED) / given.load))}%")
        sys.stdout.flush()
        time.sleep(0.05)
    time.sleep(max(0.0, given.load - (time.monotonic() - STARTED)))
    say("\nloaded")
    for number in range(given.flood):
        sys.stdout.write(f"{number:099d}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    given = parse()
    if given.say:
        say(given.say)
    if given.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if given.child:
        fork(session=False)
    if given.daemon:
        fork(session=True)
    if not given.after:
        leave()
    for work in (leave, chatter, *(() if given.mute else (serve,))):
        threading.Thread(target=work, daemon=True).start()
    while True:
        signal.pause()

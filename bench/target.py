"""A peer that runs: started in a folder of its own, ready when it has answered a question."""

import http.client
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Self

from bench.peers import Peer
from bench.process import MEASURED, Process, free_port

START = 90.0
"""Seconds that a peer may take until it answers."""


class CannotStart(Exception):
    """The text is the last of what it said."""


class Target:
    """`port` answers chats and embeddings. `process` is None for the stub itself, asked directly."""

    def __init__(self, name: str, port: int, peer: Peer | None = None, process: Process | None = None) -> None:
        self.name = name
        self.port = port
        self.peer = peer
        self.process = process
        self._folder: Path | None = None

    @classmethod
    def start(cls, peer: Peer, program: Path, engine: int) -> Self:
        folder = Path(tempfile.mkdtemp(prefix="bench-"))  # a socket's path may have 107 bytes: no long one
        port = free_port()
        command = peer.command(program, folder, port, engine)
        process = Process(command.argv, MEASURED, folder / "output.log", command.env, alone=peer.alone)
        target = cls(peer.name, port, peer, process)
        target._folder = folder
        try:
            _wait(peer, port, process)
        except BaseException:
            target.end()
            raise
        return target

    def end(self) -> None:
        if self.process:
            self.process.end()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def flags(self, *, embeddings: bool) -> list[str]:
        """What the load generator needs to know of it."""
        flags = ["-address", f"127.0.0.1:{self.port}"]
        if self.peer:
            flags += ["-model", self.peer.asks[embeddings], "-expect", self.peer.expects[embeddings]]
            flags += ["-key", self.peer.key]
        return flags


def _wait(peer: Peer, port: int, process: Process) -> None:
    body = {"model": peer.asks[0], "messages": [{"role": "user", "content": "Hello"}]}
    deadline = time.monotonic() + START
    while ask(port, "POST", "/v1/chat/completions", body, peer.key)[0] != 200:
        if process.ended or time.monotonic() > deadline:
            last = process.log.read_text(errors="replace").strip().splitlines()[-3:]
            what = " / ".join(last).replace(str(process.log.parent), "FOLDER")
            raise CannotStart(f"{'ended' if process.ended else 'no answer'}: {what}"[:500])
        time.sleep(0.1)
    ready = b'state="ready"'  # the first replica has answered, the others may still be starting
    while ask(port, "GET", "/metrics", key=peer.key)[1].count(ready) < peer.replicas:
        if time.monotonic() > deadline:
            raise CannotStart("not all of its replicas got ready")
        time.sleep(0.1)


def ask(port: int, method: str, path: str, body: object = None, key: str = "") -> tuple[int, bytes]:
    """Status and body of an answer; 0 where there is none."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()

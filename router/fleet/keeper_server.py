"""The keeper's unix socket: newline-delimited JSON, several clients at once. Standard library only."""

import json
import os
import selectors
import socket
import stat
from collections.abc import Callable
from contextlib import suppress

LONGEST_REQUEST = 65536  # bytes of a line
LONGEST_OUTBOX = 262144  # bytes a client may leave unread before it is dropped
MOST_CLIENTS = 64


class Client:
    """One connection. It never blocks: what the client does not read waits in the outbox, and a client that lets it
    overflow is dropped."""

    def __init__(self, sock: socket.socket, server: "Server") -> None:
        sock.setblocking(False)
        self.sock, self.server = sock, server
        self.inbox = b""
        self.outbox = b""
        self.reading = True
        self.owed = 0  # replies to `stop` that come at the end
        self.holds = False  # it renews the lease

    def send(self, message: dict[str, object]) -> None:
        """Queues one line and writes what goes."""
        self.outbox += json.dumps(message).encode() + b"\n"
        self._write()

    def ready(self, mask: int) -> None:
        """The selector's callback."""
        if mask & selectors.EVENT_READ and self.reading:
            self._read()
        if mask & selectors.EVENT_WRITE and self.sock.fileno() >= 0:
            self._write()

    def _read(self) -> None:
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            self.server.drop(self)
            return
        self.reading = bool(data)
        *lines, self.inbox = (self.inbox + data).split(b"\n")
        if max(len(line) for line in (*lines, self.inbox)) > LONGEST_REQUEST:
            self.reading = False
            self.send({"error": f"a request is at most {LONGEST_REQUEST} bytes"})
            return
        for line in lines:
            if self.sock.fileno() >= 0:
                self.server.take(self, line)
        self._settle()

    def _write(self) -> None:
        try:
            self.outbox = self.outbox[self.sock.send(self.outbox) :]
        except BlockingIOError:
            pass
        except OSError:
            self.server.drop(self)
            return
        if len(self.outbox) > LONGEST_OUTBOX:
            self.server.drop(self)
        self._settle()

    def _settle(self) -> None:
        """Asks the selector for what is still to come. A finished client is dropped; one that has closed its side,
        and is owed a reply, is not watched."""
        if self.sock.fileno() < 0:
            return
        if not (self.reading or self.outbox or self.owed):
            self.server.drop(self)
            return
        mask = (selectors.EVENT_READ if self.reading else 0) | (selectors.EVENT_WRITE if self.outbox else 0)
        self.server.watch(self, mask)


class Server:
    """The unix socket and its clients."""

    def __init__(
        self,
        path: str,
        selector: selectors.BaseSelector,
        answer: Callable[[Client, dict[str, object]], None],
        left: Callable[[Client], None],
    ) -> None:
        self.path, self.selector, self.answer, self.left = path, selector, answer, left
        self.clients: set[Client] = set()
        self.sock = self._listen()
        self.inode = os.stat(path).st_ino
        selector.register(self.sock, selectors.EVENT_READ, self._accept)

    def _listen(self) -> socket.socket:
        """Binds the path for this user only. Raises OSError, also if a living keeper has it."""
        with socket.socket(socket.AF_UNIX) as probe, suppress(FileNotFoundError, ConnectionRefusedError):
            probe.setblocking(False)
            probe.connect(self.path)
            raise OSError(f"another keeper answers on {self.path}")
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(self.path).st_mode):
                os.unlink(self.path)
        sock = socket.socket(socket.AF_UNIX)
        umask = os.umask(0o177)
        try:
            sock.bind(self.path)
        finally:
            os.umask(umask)
        sock.listen(MOST_CLIENTS)
        sock.setblocking(False)
        return sock

    def take(self, client: Client, line: bytes) -> None:
        """One request line: parsed here, answered by the keeper."""
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            client.send({"error": "a request is one line of JSON"})
            return
        if not isinstance(request, dict):
            client.send({"error": 'a request is an object, such as {"op": "status"}'})
            return
        self.answer(client, request)

    def watch(self, client: Client, mask: int) -> None:
        """Changes what wakes the keeper for this client; 0 for nothing (a closed peer would wake it for ever)."""
        known = client.sock in self.selector.get_map()
        if mask and known:
            self.selector.modify(client.sock, mask, client.ready)
        elif mask:
            self.selector.register(client.sock, mask, client.ready)
        elif known:
            self.selector.unregister(client.sock)

    def drop(self, client: Client) -> None:
        """Closes a connection, once or more often."""
        if client in self.clients:
            self.clients.discard(client)
            self.watch(client, 0)
            client.reading = False
            client.sock.close()
            self.left(client)

    def close(self) -> None:
        """Stops listening and frees the path for the next keeper. Those connected stay."""
        if self.sock.fileno() >= 0:
            with suppress(OSError):  # while it still listens: no one else takes the path before it is free
                if os.stat(self.path).st_ino == self.inode:
                    os.unlink(self.path)
            self.selector.unregister(self.sock)
            self.sock.close()

    def _accept(self, _mask: int) -> None:
        with suppress(OSError):
            sock, _ = self.sock.accept()
            if len(self.clients) >= MOST_CLIENTS:
                sock.close()
                return
            client = Client(sock, self)
            self.clients.add(client)
            self.watch(client, selectors.EVENT_READ)

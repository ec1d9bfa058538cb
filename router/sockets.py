"""What a router has for itself on the machine: the lock of its state folder, its address, its commands' socket."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from router.fleet.files import Files


class CannotStart(Exception):
    """The router cannot run; the message says why and what to do."""


class Held(CannotStart):
    """Another router has the lock. `who` is for people."""

    def __init__(self, message: str, who: str) -> None:
        super().__init__(message)
        self.who = who


class Lock:
    """Held as long as a router runs; the system lets go of it however that ends. It says who holds it."""

    def __init__(self, files: Files, file: IO[str]) -> None:
        self._files, self.file = files, file

    @classmethod
    def take(cls, files: Files) -> "Lock":
        """Raises CannotStart; Held, with who has it."""
        try:
            files.make()
            path = files.state_dir / "router.lock"
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+")
        except OSError as error:
            raise unusable(files.state_dir, error) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                pid, _, address = file.read().strip().partition(" ")
            who = f"pid {pid} at {address}" if pid else "it is just starting"
            remedy = "end it with `router down`, take its place with `router up --takeover`, or set another `state_dir`"
            raise Held(f"a router runs already with {files.state_dir} ({who}); {remedy}", who) from None
        except OSError as error:  # a network's file system may have no locks
            file.close()
            raise unusable(files.state_dir, error) from None
        return cls(files, file)

    def sign(self, address: str) -> None:
        """Tells who holds it. Raises CannotStart."""
        try:
            self.file.truncate(0)
            self.file.write(f"{os.getpid()} {address}\n")
            self.file.flush()
        except OSError as error:  # the disk is full
            raise unusable(self._files.state_dir, error) from None

    def close(self, *, handed: bool) -> None:
        """`handed`: another process holds it on. May be called again."""
        if not self.file.closed:
            with self.file:
                if not handed:
                    self.file.truncate(0)


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """`backlog`: connections that may wait to be taken. Raises CannotStart."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(backlog)  # not before this is the port ours
    except OSError as error:
        listener.close()
        raise CannotStart(
            f"cannot listen on {bracketed(host)}:{port}: {error.strerror}; free it, or change `listen`"
        ) from None
    return listener


@contextmanager
def private(path: Path) -> Iterator[socket.socket]:
    """A unix socket that listens at `path`, for this user only. What was there is an earlier router's, and at no time
    nobody listens in between: the lock is ours. Raises CannotStart."""
    new = path.with_name("new.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            new.unlink(missing_ok=True)
            listener.bind(str(new))
            new.chmod(0o600)
            listener.listen()  # nobody can connect before this
            ours = new.rename(path).stat().st_ino
        except OSError as error:
            raise unusable(path.parent, error) from None
        try:
            yield listener
        finally:
            with suppress(OSError):
                if path.stat().st_ino == ours:  # else it is the next router's already
                    path.unlink()


def unusable(state_dir: Path, error: OSError) -> CannotStart:
    return CannotStart(f"cannot keep its state in {state_dir}: {error.strerror}; set another `state_dir`")


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

"""Ports for engines."""

import random
import socket
from pathlib import Path

LOWEST = 20000
FEWEST = 1000
"""A machine that leaves fewer ports than this outside its ephemeral range gets ports from within it."""


class Ports:
    """Free ports of 127.0.0.1, outside the range from which the system takes ports for outgoing connections: an engine
    may listen on its port only minutes after it was chosen. `taken` are those in use by this router."""

    def __init__(self) -> None:
        self.taken: set[int] = set()

    def take(self) -> int:
        """Raises OSError when there is none."""
        candidates = _candidates(_ephemeral())
        first = random.randrange(len(candidates))  # noqa: S311 - not a secret; two routers shall not race for one
        for port in (*candidates[first:], *candidates[:first]):
            if port not in self.taken and _is_free(port):
                self.taken.add(port)
                return port
        raise OSError("no port is free for an engine")

    def hold(self, port: int) -> None:
        """One that an adopted engine has."""
        self.taken.add(port)

    def give_back(self, port: int) -> None:
        self.taken.discard(port)


def _candidates(ephemeral: range) -> list[int]:
    everything = range(LOWEST, 65536)
    outside = [port for port in everything if port not in ephemeral]
    return outside if len(outside) >= FEWEST else list(everything)


def _ephemeral() -> range:
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return range(int(first), int(last) + 1)
    except (OSError, ValueError):
        return range(32768, 61000)


def _is_free(port: int) -> bool:
    """Without SO_REUSEADDR, which would overlook a program that has bound its port and does not listen yet."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

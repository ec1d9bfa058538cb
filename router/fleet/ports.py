"""Ports for engines."""

import random
import socket
from pathlib import Path

LOWEST = 20000


class Ports:
    """Free ports of 127.0.0.1, outside the range from which the system takes ports for outgoing connections: an engine
    may listen on its port only minutes after it was chosen. `taken` are those in use by this router."""

    def __init__(self) -> None:
        self.taken: set[int] = set()

    def take(self) -> int:
        candidates = [port for port in range(LOWEST, _first_ephemeral()) if port not in self.taken]
        random.shuffle(candidates)
        for port in candidates:
            if _is_free(port):
                self.taken.add(port)
                return port
        raise OSError("no free port for an engine")

    def give_back(self, port: int) -> None:
        self.taken.discard(port)


def _first_ephemeral() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first = 32768
    return first if first > LOWEST + 1000 else 65536


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

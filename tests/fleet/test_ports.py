"""The engines' ports."""

import socket

import pytest

from router.fleet import ports
from router.fleet.ports import Ports


def test_a_port_is_not_given_twice_while_it_is_in_use() -> None:
    mine = Ports()
    taken = [mine.take() for _ in range(200)]
    assert len(set(taken)) == 200
    mine.give_back(taken[0])
    assert mine.taken == set(taken[1:])


def test_ports_are_outside_the_range_of_outgoing_connections() -> None:
    ephemeral = ports._ephemeral()
    assert all(port not in ephemeral and 20000 <= port <= 65535 for port in (Ports().take() for _ in range(200)))


@pytest.mark.parametrize(
    ("ephemeral", "expected"),
    [
        (range(32768, 61000), {*range(20000, 32768), *range(61000, 65536)}),
        (range(20000, 50001), set(range(50001, 65536))),
        (range(1024, 65536), set(range(20000, 65536))),
    ],
)
def test_candidates(ephemeral: range, expected: set[int]) -> None:
    assert set(ports._candidates(ephemeral)) == expected


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_has_bound_is_not_free_whether_or_not_he_listens(host: str, listening: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, 0))
        if listening:
            other.listen()
        assert not ports._is_free(other.getsockname()[1])


def test_without_a_free_port_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_is_free", lambda _port: False)
    with pytest.raises(OSError, match="no port is free for an engine"):
        Ports().take()

"""Clients and engines that mean harm: what has no end is cut off, and nobody else waits for it."""

import time
from contextlib import suppress

import pytest
from lab import OK, Lab, Wire, answer, post, soon

from router.proxy.headers import by_name, for_client, for_engine

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
CHUNKED = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
ENDLESS = pytest.mark.parametrize("endless", [b"y" * 10_000, b"x: y\r\n" * 2_000], ids=["one", "many"])


async def pour(wire: Wire, endless: bytes) -> None:
    """Sends until the other end will have no more of it."""
    with suppress(ConnectionError):
        while True:
            await wire.send(endless)


@ENDLESS
@pytest.mark.parametrize("before", [b"d\r\n" + BODY + b"\r\n0\r\nx: ", b"d\r\n" + BODY + b"\r\n0\r\n"])
async def test_a_clients_trailers_without_end_are_cut_off(lab: Lab, before: bytes, endless: bytes) -> None:
    engine = await lab.answering(OK)
    await soon(pour(await lab.send(CHUNKED + before), endless))
    assert not engine.wires


@ENDLESS
async def test_they_are_after_the_answer_too(lab: Lab, endless: bytes) -> None:
    """An answer that needs no body, such as the one that a key is missing, is out before the trailers come."""
    wire = await lab.send(CHUNKED.replace(b"POST", b"PUT") + b"0\r\nx: ")
    assert (await wire.response()).status == 405
    await soon(pour(wire, endless))


async def test_a_chunks_extensions_without_end_are_cut_off(lab: Lab) -> None:
    await lab.answering(OK)
    await soon(pour(await lab.send(CHUNKED + b"d;"), b"y" * 10_000))


async def test_chunks_with_a_little_around_each_are_taken(lab: Lab) -> None:
    engine = await lab.answering(OK)
    wire = await lab.send(CHUNKED)
    for byte in b'{"model":"m"' + b" " * 100 + b"}":
        await wire.send(b"1;" + b"y" * 2_000 + b"\r\n%c\r\n" % byte)
    await wire.send(b"0\r\nx: y\r\n\r\n")
    assert (await wire.response()).status == 200
    assert engine.requests[0].body == b'{"model":"m"' + b" " * 100 + b"}"


async def test_a_large_body_is_not_counted_as_the_head_that_follows_it(lab: Lab) -> None:
    await lab.answering(OK)
    following = post(BODY)
    wire = await lab.send(post(b'{"model":"m","x":"' + b"y" * 150_000 + b'"}') + following[:40])
    assert (await wire.response()).status == 200
    await wire.send(following[40:])
    assert (await wire.response()).status == 200


async def test_a_thousand_wishes_for_another_protocol_at_once_are_passed_over(lab: Lab) -> None:
    wish = b"GET /health HTTP/1.1\r\nhost: r\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    wire = await lab.send(wish * 1_000)
    for _ in range(1_000):
        assert (await wire.response()).status == 200


@pytest.mark.parametrize("passed_on", [for_client, for_engine])
def test_a_head_full_of_connection_headers_holds_nobody_up(passed_on: object) -> None:
    headers = [(b"connection", b"x-%d" % number) for number in range(10_000)] + [(b"x-9999", b""), (b"x", b"y")]
    start = time.perf_counter()
    assert passed_on(headers, by_name(headers)) in ([(b"x", b"y")], b"x: y\r\n")  # type: ignore[operator]
    assert time.perf_counter() - start < 0.2


@ENDLESS
@pytest.mark.parametrize("before", [b"0\r\nx: ", b"0\r\n", b"2;"])
async def test_an_engines_trailers_without_end_are_cut_off(lab: Lab, before: bytes, endless: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(head + before)
        await pour(wire, b"y" * 10_000 if before == b"2;" else endless)

    engine = await lab.engine(script)
    reply = await lab.chat()
    assert (reply.complete, reply.body) == (False, b"hi")
    await engine.left()


async def test_early_hints_without_end_are_cut_off(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await pour(wire, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1_000)

    engine = await lab.engine(script)
    assert (await lab.chat()).code == "engine_failed"
    await engine.left()


@pytest.mark.parametrize(
    "header",
    [b"x: a\nset-cookie: evil", b"x: a\rset-cookie: evil", b"x: a\r\n b", b"x: a\0b", b"x: a\x1b[31m", b"x y: a",
     b": a", b"content-length: 13", b"content-length: -13", b"content-length: 13, 13", b"transfer-encoding: chunked"],
)  # fmt: skip
async def test_an_engines_head_that_readers_could_take_differently_is_not_passed_on(lab: Lab, header: bytes) -> None:
    await lab.answering(answer(BODY, extra=header + b"\r\n"))
    reply = await lab.chat()
    assert reply.code == "engine_failed"
    assert b"evil" not in reply.body
    assert reply[b"set-cookie"] is None

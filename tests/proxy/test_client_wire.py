"""Every way in which a client's bytes may come."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import asyncio

import pytest
from lab import OK, Lab, Wire, answer, post, until

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'


async def test_pipelined_requests_are_answered_in_order(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        while request := await wire.request():
            await wire.send(answer(request.body))

    await lab.engine(script)
    wire = await lab.send(b"".join(post(b'{"model":"m","n":%d}' % number) for number in range(40)))
    for number in range(40):
        assert (await wire.response()).json()["n"] == number


async def test_a_pipelined_error_does_not_break_into_an_answer(lab: Lab) -> None:
    await lab.answering(OK)
    wire = await lab.send(post(BODY) + post(b"{}") + b"GET /nowhere HTTP/1.1\r\nhost: r\r\n\r\n" + post(BODY))
    assert [(await wire.response()).status for _ in range(4)] == [200, 400, 404, 200]


async def test_a_client_that_expects_100_is_told_to_go_on(lab: Lab) -> None:
    engine = await lab.answering(OK)
    data = post(BODY, extra=b"Expect: 100-continue\r\n")
    wire = await lab.send(data[: -len(BODY)])
    assert (await wire.head()).status == 100
    await wire.send(BODY)
    assert (await wire.response()).status == 200
    assert engine.requests[0][b"expect"] is None


async def test_a_client_that_expects_100_for_too_much_is_refused_first(lab: Lab) -> None:
    lab.limits.max_body = 5
    wire = await lab.send(post(BODY, extra=b"Expect: 100-continue\r\n")[: -len(BODY)])
    assert (await wire.head()).status == 413


@pytest.mark.parametrize(
    "headers",
    [
        b"content-length: 13\r\ntransfer-encoding: chunked\r\n", b"transfer-encoding: chunked\r\ncontent-length: 13\r\n",
        b"content-length: 13\r\ncontent-length: 14\r\n", b"content-length: 13\r\ncontent-length: 13\r\n", b"content-length: -1\r\n",
        b"content-length: +13\r\n", b"content-length: 0x0d\r\n", b"content-length: 13, 13\r\n", b"content-length: 1 3\r\n",
        b"content-length: 99999999999999999999999\r\n", b"content-length : 13\r\n", b"transfer-encoding: gzip\r\n",
        b"transfer-encoding: chunked, gzip\r\n", b"transfer-encoding: xchunked\r\n", b"content-length: \r\n",
        b"x: a\0b\r\n", b"x\r\n", b": x\r\n", b"x: a\r\n b\r\n", b"x: a\nb: c\r\n", b"bad name: x\r\n", b"x: \x7f\r\n",
    ],
)  # fmt: skip
async def test_a_head_that_readers_could_take_differently_is_refused(lab: Lab, headers: bytes) -> None:
    engine = await lab.answering(OK)
    wire = await lab.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\n" + headers + b"\r\n" + BODY)
    reply = await wire.response()
    assert reply.status == 400
    assert reply.code in ("invalid_http", "invalid_json")
    await wire.rest()
    assert not engine.wires


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n", b"-1\r\n", b"fffffffffffffffff\r\n", b"d\r\n" + BODY + b"xx0\r\n\r\n", b"d\n" + BODY + b"\n0\n\n"],
)
async def test_broken_chunks_are_never_taken_for_a_body(lab: Lab, chunks: bytes) -> None:
    engine = await lab.answering(OK)
    wire = await lab.send(post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked") + chunks)
    received = await wire.rest()
    assert received == b"" or received.startswith(b"HTTP/1.1 400")
    assert not engine.wires


async def test_a_head_of_nearly_64_kib_is_passed_on(lab: Lab) -> None:
    engine = await lab.answering(OK)
    assert (await lab.ask(post(BODY, extra=b"x-big: " + b"y" * 60_000 + b"\r\n"))).status == 200
    assert engine.requests[0][b"x-big"] == b"y" * 60_000


@pytest.mark.parametrize("endless", [b"y" * 10_000, b"x: y\r\n" * 2_000])
async def test_a_head_without_end_is_431(lab: Lab, endless: bytes) -> None:
    wire = await lab.send(b"POST /v1/chat/completions HTTP/1.1\r\nx: ")
    try:
        for _ in range(200):
            await wire.send(endless)
    except ConnectionError:
        return  # it was cut off while it went on, which is as good
    reply = await wire.response()
    assert (reply.status, reply.code) == (431, "headers_too_large")


async def test_a_thousand_connections_that_say_nothing_keep_nobody_out(lab: Lab) -> None:
    await lab.answering(OK)
    idle = [await lab.client() for _ in range(1000)]
    await until(lambda: len(lab.server.server_state.connections) == 1000)
    assert (await lab.chat()).status == 200
    assert len(idle) == 1000


@pytest.mark.parametrize("said", [b"", b"\r\n", b"POST /v1/chat", b"POST / HTTP/1.1\r\nhost: r\r\nx: "])
async def test_a_connection_without_a_whole_head_is_closed_in_time(lab: Lab, said: bytes) -> None:
    lab.server.config.timeout_keep_alive = 0.2  # type: ignore[assignment]
    wire = await lab.client()
    for byte in said:
        await wire.send(b"%c" % byte)
    await wire.gone(2.5)


async def test_dribbling_a_head_gains_no_time(lab: Lab) -> None:
    lab.server.config.timeout_keep_alive = 0.3  # type: ignore[assignment]
    wire = await lab.send(b"POST / HTTP/1.1\r\nx: ")
    end = asyncio.get_running_loop().time() + 3
    while (now := asyncio.get_running_loop().time()) < end:
        try:
            await wire.send(b"y")
        except ConnectionError:
            break
        await asyncio.sleep(0.02)
    assert now < end


async def test_a_kept_connection_is_closed_in_time_and_not_sooner(lab: Lab) -> None:
    lab.server.config.timeout_keep_alive = 0.2  # type: ignore[assignment]
    await lab.answering(OK)
    wire = await lab.client()
    for _ in range(3):
        await wire.send(post(BODY))
        assert (await wire.response()).status == 200
    await wire.gone(2.5)


async def test_javas_client_asks_for_h2c_and_is_served(lab: Lab) -> None:
    engine = await lab.answering(OK)
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
    wire = await lab.send(post(BODY, extra=upgrade) * 2)
    assert (await wire.response()).status == 200
    assert (await wire.response()).status == 200
    assert {name for name, _ in engine.requests[0].headers} == {b"host", b"content-type", b"content-length"}


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_a_request_may_come_in_pieces(lab: Lab, size: int) -> None:
    engine = await lab.answering(OK)
    data = post(BODY, extra=b"x-a: b\r\n")
    wire = await lab.client()
    for at in range(0, len(data), size):
        await wire.send(data[at : at + size])
    assert (await wire.response()).status == 200
    assert (engine.requests[0].body, engine.requests[0][b"x-a"]) == (BODY, b"b")


async def test_text_that_is_no_http_is_told_so(lab: Lab) -> None:
    for text in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"SSH-2.0-x\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        reply = await lab.ask(text)
        assert (reply.status, reply.code, reply[b"connection"]) == (400, "invalid_http", b"close")

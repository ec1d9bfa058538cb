"""Clients that read slowly, send slowly, or wait to be told to: what they cost is bounded, and nobody hangs."""

import asyncio
import socket

import pytest
from lab import END, OK, Lab, Wire, answer, chunk, post, soon, until

from router.proxy.keys import Keys

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
EXPECT = b"expect: 100-continue\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def held(lab: Lab) -> int:
    """Bytes that wait for clients and for the next piece of an answer."""
    waiting = sum(client.transport.get_write_buffer_size() for client in lab.server._connections())
    return waiting + sum(len(piece) for pool in lab._pools() for each in pool.busy for piece in each._chunks)


async def narrow(lab: Lab) -> Wire:
    """A client with little room for what it does not read."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    end.setblocking(False)
    await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", lab.port))
    reader, writer = await asyncio.open_connection(sock=end, limit=65536)
    wire = Wire(reader, writer)
    lab.wires.append(wire)
    return wire


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_100_mb_for_a_client_that_reads_slowly_are_never_in_memory(lab: Lab, framing: str) -> None:
    piece, count = b"x" * (1 << 20), 100

    async def script(wire: Wire) -> None:
        await wire.request()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ncontent-length: %d\r\n\r\n" % (count << 20)
        await wire.send(CHUNKED if framing == "chunks" else head)
        for _ in range(count):
            await wire.send(chunk(piece) if framing == "chunks" else piece)
        if framing == "chunks":
            await wire.send(END)

    await lab.engine(script)
    wire = await narrow(lab)
    await wire.send(post(BODY))
    message = await wire.head()
    most, size = 0, 0
    if framing == "chunks":
        while data := await wire.chunk():
            size, most = size + len(data), max(most, held(lab))
    else:
        while size < int(message[b"content-length"] or 0):
            size, most = size + len(await wire.exactly(min(1 << 18, (count << 20) - size))), max(most, held(lab))
    assert size == count << 20
    assert most < 4 << 20


async def test_who_pipelines_and_does_not_read_makes_no_heap_of_answers(lab: Lab) -> None:
    large = answer(b"x" * 200_000, b"text/plain")
    engine = await lab.answering(large)
    wire = await narrow(lab)
    count = 200
    writing = asyncio.ensure_future(wire.send(post(BODY) * count))
    most = 0
    await until(lambda: any(client._unread for client in lab.server._connections()))
    for _ in range(300):
        await asyncio.sleep(0.001)
        most = max(most, held(lab))
    assert most < 2 << 20
    assert len(engine.requests) < count
    for _ in range(count):
        reply = await wire.response()
        assert (reply.status, len(reply.body)) == (200, 200_000)
    await writing


async def test_nor_does_who_asks_for_a_stream_with_an_answer_unread(lab: Lab) -> None:
    begun = asyncio.Event()

    async def script(wire: Wire) -> None:
        while request := await wire.request():
            if b"endless" in request.body:
                begun.set()
                await wire.send(CHUNKED)
                for _ in range(16):
                    await wire.send(chunk(b"x" * (1 << 20)))
                await wire.send(END)
            else:
                await wire.send(answer(b"x" * 200_000, b"text/plain"))

    await lab.engine(script)
    wire = await narrow(lab)
    (client,) = lab.server._connections()
    asked = 0
    while client._unread is None:
        await wire.send(post(BODY))
        asked += 1
        await until(lambda: len(lab.records) == asked)  # noqa: B023
    await wire.send(post(b'{"model":"m","x":"endless"}'))
    for _ in range(200):
        await asyncio.sleep(0.001)
        assert held(lab) < 4 << 20
    for _ in range(asked):
        assert len((await wire.response()).body) == 200_000
    reply = await wire.response()
    assert (reply.complete, len(reply.body)) == (True, 16 << 20)
    assert begun.is_set()


async def test_garbage_behind_a_request_that_waits_for_its_turn_is_no_answer_to_it(lab: Lab) -> None:
    engine = await lab.answering(answer(b"x" * 200_000, b"text/plain"))
    wire = await narrow(lab)
    (client,) = lab.server._connections()
    asked = 0
    while client._unread is None:
        await wire.send(post(BODY))
        asked += 1
        await until(lambda: len(lab.records) == asked)  # noqa: B023
    await wire.send(post(BODY) + b"\x16\x03\x01 garbage\r\n\r\n")
    await until(client.transport.is_closing)
    received = await wire.rest()
    assert received.count(b"HTTP/1.1 200 OK") <= asked
    assert b"HTTP/1.1 400" not in received
    assert len(engine.requests) == asked


async def test_a_client_that_never_reads_one_large_answer_is_given_up(lab: Lab) -> None:
    lab.limits.send_timeout = 0.1
    await lab.answering(answer(b"x" * (16 << 20), b"audio/wav"))
    wire = await narrow(lab)
    await wire.send(post(BODY))
    await until(lambda: lab.in_work)
    await until(lambda: not lab.server.server_state.connections)
    assert [record.error for record in lab.records] == ["client_gone"]


async def test_an_upload_of_many_small_pieces_arrives_whole(lab: Lab) -> None:
    engine = await lab.answering(OK)
    body = b'{"model":"m","x":"' + bytes(range(97, 123)) * 2_000 + b'"}'
    data = post(body)
    wire = await lab.client()
    for at in range(0, len(data), 997):
        await wire.send(data[at : at + 997])
        await asyncio.sleep(0)
    assert (await wire.response()).status == 200
    assert engine.requests[0].body == body


async def test_a_queued_request_whose_body_stops_coming_is_408(lab: Lab) -> None:
    """Its turn comes when nothing more is sent, so that nobody but a clock can notice."""
    lab.limits.body_timeout = 0.1
    await lab.answering(OK)
    wire = await lab.send(post(BODY) + post(BODY)[:-1])
    assert (await wire.response()).status == 200
    reply = await soon(wire.response(), 2.0)
    assert (reply.status, reply.code) == (408, "body_timeout")
    await wire.gone()


async def test_a_queued_request_that_waits_to_be_told_is_told(lab: Lab) -> None:
    await lab.answering(OK)
    wire = await lab.send(post(BODY) + post(BODY, extra=EXPECT)[: -len(BODY)])
    assert (await wire.response()).status == 200
    assert (await wire.head()).status == 100
    await wire.send(BODY)
    assert (await wire.response()).status == 200


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (post(BODY, extra=EXPECT, kind=b"text/plain"), 415, "unsupported_media_type"),
        (post(BODY, extra=EXPECT + b"content-encoding: gzip\r\n"), 415, "unsupported_media_type"),
        (post(BODY, extra=EXPECT).replace(b"POST", b"PUT"), 405, "method_not_allowed"),
        (post(b" " * 2_000, extra=EXPECT), 413, "body_too_large"),
        (post(BODY, extra=EXPECT + b"x-api-key: sk-wrong\r\n"), 401, "invalid_api_key"),
    ],
    ids=str,
)
async def test_who_waits_to_be_told_is_refused_without_its_body(lab: Lab, head: bytes, status: int, code: str) -> None:
    class Key:
        name, digest, admin = "holder", b"of nobody", False

    lab.limits.max_body = 1_000
    if status == 401:
        lab.proxy.keys = Keys([Key()])
    engine = await lab.answering(OK)
    wire = await lab.send(head[: head.index(b"\r\n\r\n") + 4])
    reply = await wire.response()
    assert (reply.status, reply.code, reply[b"connection"]) == (status, code, b"close")
    await wire.gone()
    assert not engine.wires
    await until(lambda: len(lab.records) == 1)
    assert (lab.records[0].status, lab.records[0].error) == (status, code)


async def test_who_waits_to_be_told_hears_of_an_unknown_model_after_its_body(lab: Lab) -> None:
    body = b'{"model":"nobody"}'
    wire = await lab.send(post(body, extra=EXPECT)[: -len(body)])
    assert (await wire.head()).status == 100
    await wire.send(body)
    assert (await wire.response()).code == "model_not_found"


async def test_who_does_not_wait_to_be_told_is_served_all_the_same(lab: Lab) -> None:
    engine = await lab.answering(OK)
    wire = await lab.send(post(BODY, extra=EXPECT))
    reply = await wire.response()
    if reply.status == 100:
        reply = await wire.response()
    assert reply.status == 200
    assert engine.requests[0].body == BODY


async def test_a_client_of_http_1_0_is_never_told_100(lab: Lab) -> None:
    """It would take it for the answer."""
    await lab.answering(OK)
    data = post(BODY, extra=EXPECT).replace(b"HTTP/1.1", b"HTTP/1.0")
    wire = await lab.send(data[: -len(BODY)])
    await until(lambda: lab.in_work)
    await wire.send(BODY)
    assert (await wire.response()).status == 200


async def test_what_follows_the_last_request_of_a_connection_does_not_harm_it(lab: Lab) -> None:
    engine = await lab.answering(OK)
    for last in (post(BODY, extra=b"connection: close\r\n"), post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0")):
        wire = await lab.send(last + b"\r\n" + post(BODY) + b"garbage")
        assert (await wire.response()).status == 200
        assert await wire.rest() == b""
    assert len(engine.requests) == 2


async def test_an_upgrade_of_http_1_0_is_answered_without_chunks(lab: Lab) -> None:
    await lab.answering(CHUNKED + chunk(b"one") + chunk(b"two") + END)
    upgrade = post(BODY, extra=b"connection: upgrade\r\nupgrade: h2c\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
    wire = await lab.send(upgrade)
    reply = await wire.response()
    assert reply[b"transfer-encoding"] is None
    assert await wire.rest() == b"onetwo"


async def test_an_answer_without_end_is_reset_where_nothing_else_would_tell(lab: Lab) -> None:
    """To a client of HTTP/1.0 the end of the connection is the end of the answer."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(CHUNKED + chunk(b"half"))

    await lab.engine(script)
    wire = await lab.send(post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"))
    await wire.head()
    with pytest.raises(ConnectionError):
        await wire._reader.read()

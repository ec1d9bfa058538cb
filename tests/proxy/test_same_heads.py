"""A client whose requests have the same head again and again: no shortcut is to be seen from outside.

From the second request on a connection the head is remembered; `warm` gets that far.
"""

import asyncio
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from lab import OK, Lab, Message, Wire, answer, post, until

from router.proxy.keys import Keys

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
PATH = b"/v1/chat/completions"
CHUNKED = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")


@dataclass
class Key:
    name: str
    digest: bytes
    admin: bool = False


def keys(*secrets: str) -> Keys:
    return Keys([Key(f"holder of {text}", hashlib.sha256(text.encode()).digest()) for text in secrets])


async def echo(lab: Lab) -> None:
    """An engine that tells what it was asked."""

    async def script(wire: Wire) -> None:
        while request := await wire.request():
            told = b"%b|%b|" % (request.target, request[b"x-a"] or b"")
            await wire.send(answer(told + request.body, b"text/plain"))

    await lab.engine(script)


def told(body: bytes, path: bytes = PATH, header: bytes = b"") -> bytes:
    return b"%b|%b|%b" % (path, header, body)


async def warm(lab: Lab, extra: bytes = b"") -> Wire:
    """A connection on which this head is remembered."""
    wire = await lab.client()
    for _ in range(2):
        await wire.send(post(BODY, extra=extra))
        assert (await wire.response()).status == 200
    port = wire.socket.getsockname()[1]
    for connection in lab.server._connections():
        if connection.transport.get_extra_info("peername")[1] == port:
            assert connection._again is not None
    return wire


async def test_bodies_of_every_length_are_told_apart(lab: Lab) -> None:
    await echo(lab)
    wire = await warm(lab)
    for size in (0, 1, 9, 86, 87, 9, 990, 0, 12_000, 3, 300_000, 3):
        body = b'{"model":"m"}' + b" " * size
        await wire.send(post(body))
        assert (await wire.response()).body == told(body)


@pytest.mark.parametrize(
    "length",
    [b"13", b"013", b"00000013", b"000000000013", b"0", b"00", b"", b"+13", b"-13", b"13 ", b" 13", b"\t13", b"1 3",
     b"13,13", b"0x0d", b"1e1", b"1_3", b"13.0", b"99999999999", b"99999999999999999999999", b"13\0", b"\xb2", b"13\r",
     b"13\n", b"13\r\ncontent-length: 13", b"13\r\ncontent-length: 5", b"13\r\ntransfer-encoding: chunked",
     b"13\r\nx-a: b", b"13\r\nexpect: 100-continue", b"13\r\nconnection: close"],
)  # fmt: skip
async def test_any_writing_of_the_length_is_taken_as_it_is_the_first_time(lab: Lab, length: bytes) -> None:
    await echo(lab)
    lab.limits.body_timeout = 0.05
    odd = post(BODY).replace(b"content-length: 13", b"content-length: " + length)

    async def answers(wire: Wire) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
        await wire.send(odd)
        message = await wire.response()
        return message.start, message.passed_on, message.body

    assert await answers(await warm(lab)) == await answers(await lab.client())


async def test_a_body_shorter_than_said_is_waited_for(lab: Lab) -> None:
    await echo(lab)
    wire = await warm(lab)
    await wire.send(post(BODY)[:-1])
    await until(lambda: lab.in_work)
    await wire.send(b"}")
    assert (await wire.response()).body == told(BODY)


async def test_one_that_never_comes_is_408(lab: Lab) -> None:
    lab.limits.body_timeout = 0.05
    await echo(lab)
    wire = await warm(lab)
    await wire.send(post(BODY)[:-1])
    reply = await wire.response()
    assert (reply.status, reply.code, reply[b"connection"]) == (408, "body_timeout", b"close")
    await wire.gone()


async def test_what_follows_a_body_is_the_next_request(lab: Lab) -> None:
    await echo(lab)
    wire = await warm(lab)
    bodies = [b'{"model":"m","n":%d}' % number for number in range(5)]
    await wire.send(b"".join(map(post, bodies)))
    for body in bodies:
        assert (await wire.response()).body == told(body)


@pytest.mark.parametrize("behind", [b"}", b"\x00", b"garbage\r\n\r\n", b"GET"])
async def test_garbage_behind_a_body_reaches_no_engine(lab: Lab, behind: bytes) -> None:
    engine = await lab.answering(OK)
    wire = await warm(lab)
    await wire.send(post(BODY) + behind)
    wire._writer.write_eof()
    received = await wire.rest()
    assert received.count(b"HTTP/1.1 ") <= 2
    assert all(request.body == BODY for request in engine.requests)


async def test_a_request_within_a_body_is_only_a_body(lab: Lab) -> None:
    engine = await lab.answering(OK)
    wire = await warm(lab)
    inner = post(BODY).decode().replace("\r\n", "\\r\\n").replace('"', '\\"').encode()
    whole = b'{"x":"%b","model":"m"}' % inner
    raw = post(BODY) + post(BODY)
    await wire.send(post(whole) + post(raw))
    assert [(await wire.response()).status for _ in range(2)] == [200, 400]
    assert [request.body for request in engine.requests] == [BODY, BODY, whole]


async def test_what_looks_like_the_same_request_within_another_one_is_not(lab: Lab) -> None:
    """As the body of one that was refused before it came, and as the value of a header."""
    await echo(lab)
    wire = await warm(lab)
    (connection,) = lab.server._connections()
    refused = post(post(BODY)).replace(b"POST", b"PUT", 1)
    for _ in range(2):
        await wire.send(refused[: -len(post(BODY))])
        assert (await wire.response()).status == 405
        await wire.send(post(BODY))
        await until(lambda: connection._reading is None)
        await wire.send(b"POST /v1/completions HTTP/1.1\r\nx-a: ")
        await until(lambda: connection._in_head)
        await wire.send(post(BODY))
        value = post(BODY).partition(b"\r\n")[0]
        assert (await wire.response()).body == told(BODY, b"/v1/completions", value)
    assert [record.status for record in lab.records] == [200, 200, 405, 200, 405, 200]


async def test_a_head_may_come_in_two_reads_after_it_was_remembered(lab: Lab) -> None:
    await echo(lab)
    wire = await warm(lab)
    data = post(BODY)
    (connection,) = lab.server._connections()
    for cut in range(1, len(data)):
        await wire.send(data[:cut])
        await until(lambda: connection._in_head or connection._reading)
        await wire.send(data[cut:])
        assert (await wire.response()).body == told(BODY)
        await wire.send(data)
        assert (await wire.response()).body == told(BODY)


@pytest.mark.parametrize(
    "other",
    [
        post(BODY, extra=b"connection: close\r\n"),
        post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(BODY, extra=b"connection: keep-alive, close\r\n"),
    ],
)
async def test_a_request_that_is_the_last_ends_the_connection(lab: Lab, other: bytes) -> None:
    await echo(lab)
    wire = await warm(lab)
    await wire.send(post(BODY))
    await wire.response()
    await wire.send(other)
    reply = await wire.response()
    assert (reply.status, reply[b"connection"], reply.body) == (200, b"close", told(BODY))
    await wire.gone()


async def test_each_of_them_may_be_what_is_repeated(lab: Lab) -> None:
    await echo(lab)
    for head in (post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"), post(BODY, extra=b"connection: close\r\n")):
        wire = await lab.send(head + head + head)
        assert (await wire.response()).body == told(BODY)
        assert await wire.rest() == b""


async def test_chunks_and_expectations_come_in_between(lab: Lab) -> None:
    await echo(lab)
    wire = await warm(lab)
    for _ in range(3):
        await wire.send(CHUNKED + b"d\r\n" + BODY + b"\r\n0\r\n\r\n")
        assert (await wire.response()).body == told(BODY)
        await wire.send(post(BODY))
        assert (await wire.response()).body == told(BODY)
        await wire.send(post(BODY, extra=b"expect: 100-continue\r\n")[: -len(BODY)])
        assert (await wire.head()).status == 100
        await wire.send(BODY)
        assert (await wire.response()).body == told(BODY)
        await wire.send(post(BODY))
        assert (await wire.response()).body == told(BODY)


async def test_who_expects_100_is_told_each_time(lab: Lab) -> None:
    await echo(lab)
    wire = await lab.client()
    for _ in range(5):
        await wire.send(post(BODY, extra=b"expect: 100-continue\r\n")[: -len(BODY)])
        assert (await wire.head()).status == 100
        await wire.send(BODY)
        assert (await wire.response()).body == told(BODY)


async def test_a_key_that_was_taken_away_is_asked_for_again(lab: Lab) -> None:
    before = lab.proxy.keys = keys("sk-a", "sk-b")
    await echo(lab)
    wire = await warm(lab, extra=b"authorization: Bearer sk-a\r\n")
    for state, status in ((before, 200), (keys("sk-b"), 401), (before, 200), (keys("sk-a", "sk-c"), 200)):
        lab.proxy.keys = state
        for _ in range(3):
            await wire.send(post(BODY, extra=b"authorization: Bearer sk-a\r\n"))
            assert (await wire.response()).status == status
    lab.proxy.keys = Keys([Key("another", hashlib.sha256(b"sk-a").digest())])
    await wire.send(post(BODY, extra=b"authorization: Bearer sk-a\r\n"))
    assert (await wire.response()).status == 200
    await until(lambda: len(lab.records) == 15)
    assert [record.key for record in lab.records[-4:]] == ["holder of sk-a"] * 3 + ["another"]


async def test_another_key_is_another_holder(lab: Lab) -> None:
    lab.proxy.keys = keys("sk-a", "sk-b")
    await echo(lab)
    wire = await warm(lab, extra=b"authorization: Bearer sk-a\r\n")
    expected = [("holder of sk-a", 200)] * 2
    for secret, status in (("sk-b", 200), ("sk-a", 200), ("sk-x", 401), ("sk-a", 200), ("sk-b", 200)):
        await wire.send(post(BODY, extra=b"authorization: Bearer %b\r\n" % secret.encode()))
        assert (await wire.response()).status == status
        expected.append((f"holder of {secret}" if status == 200 else "", status))
    assert [(record.key, record.status) for record in lab.records] == expected


async def test_paths_queries_and_headers_are_never_confused(lab: Lab) -> None:
    await echo(lab)
    heads = [(PATH, b"a", b"1"), (b"/v1/completions", b"a", b"1"), (PATH + b"?q=1", b"a", b"1"),
             (PATH + b"?q=2", b"b", b"2"), (PATH, b"b", b"3"), (PATH, b"B", b"4"), (PATH, b"", b"5")]  # fmt: skip
    wire = await lab.client()
    order = [heads[min(number, len(heads) - 1)] for number in range(len(heads)) for _ in range(3)]
    order += [random.Random(7).choice(heads) for _ in range(60)]  # noqa: S311
    for path, header, name in order:
        await wire.send(post(BODY, path, extra=b"x-a: %b\r\nx-request-id: %b\r\n" % (header, name)))
        assert (await wire.response()).body == told(BODY, path, header)
    assert [(record.id.encode(), record.path.encode()) for record in lab.records] == [
        (name, path.partition(b"?")[0]) for path, _, name in order
    ]


async def test_requests_without_an_id_of_their_own_get_one_each(lab: Lab) -> None:
    await lab.answering(OK)
    wire = await warm(lab)
    for _ in range(20):
        await wire.send(post(BODY))
        await wire.response()
    assert len({record.id for record in lab.records}) == len(lab.records) == 22


async def test_two_clients_in_turns_get_their_own(lab: Lab) -> None:
    await echo(lab)
    one, other = await warm(lab, b"x-a: one\r\n"), await warm(lab, b"x-a: two\r\n")
    for number in range(20):
        body = b'{"model":"m","n":%d}' % number
        await one.send(post(body, extra=b"x-a: one\r\n"))
        await other.send(post(body, extra=b"x-a: two\r\n"))
        assert (await other.response()).body == told(body, header=b"two")
        assert (await one.response()).body == told(body, header=b"one")


async def test_a_body_that_was_too_large_is_not_held_against_the_next_one(lab: Lab) -> None:
    lab.limits.max_body = 20
    await echo(lab)
    wire = await lab.client()
    for size in (30, 30, 0, 7, 8, 30, 0):
        body = BODY + b" " * size
        await wire.send(post(body))
        assert (await wire.response()).status == (200 if len(body) <= 20 else 413), size


async def test_a_model_that_has_gone_is_not_remembered(lab: Lab) -> None:
    await echo(lab)
    wire = await warm(lab)
    lab.catalog.replace([])
    await wire.send(post(BODY))
    assert (await wire.response()).code == "model_not_found"
    lab.catalog.replace([lab.model])
    await wire.send(post(BODY))
    assert (await wire.response()).status == 200


async def test_javas_client_repeats_itself_too(lab: Lab) -> None:
    await echo(lab)
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAA\r\nx-a: b\r\n"
    wire = await lab.client()
    for number in range(6):
        body = b'{"model":"m","n":%d}' % number
        await wire.send(post(body, extra=upgrade))
        assert (await wire.response()).body == told(body, header=b"b")


def requests(rng: random.Random) -> Iterator[bytes]:
    """What a client may say in its right mind; mostly what it said before."""
    usual = b"x-a: usual\r\n"
    for _ in range(25):
        body = b'{"model":"m","n":%d,"x":"%b"}' % (rng.randrange(10), b"y" * rng.choice((0, 0, 1, 90, 900)))
        kind = rng.randrange(12)
        if kind < 6:
            yield post(body, extra=usual)
        elif kind == 6:
            yield post(body, b"/v1/completions?x=%d" % rng.randrange(3), extra=b"x-a: other\r\n")
        elif kind == 7:
            head = CHUNKED.replace(b"\r\n\r\n", b"\r\nx-a: chunked\r\n\r\n")
            yield head + b"%x\r\n%b\r\n0\r\nx-a: trailer\r\n\r\n" % (len(body), body)
        elif kind == 8:
            yield b"GET %b HTTP/1.1\r\nhost: r\r\n\r\n" % rng.choice((b"/health", b"/nowhere", PATH))
        elif kind == 9:
            yield post(b'{"model":"unknown"}' + b" " * rng.randrange(9), extra=usual)
        elif kind == 10:
            yield post(b"{" * rng.randrange(3), extra=usual)
        else:
            yield post(body, extra=usual, kind=rng.choice((b"text/plain", b"application/json; charset=utf-8")))


def cut(data: bytes, rng: random.Random) -> Iterator[bytes]:
    while data:
        size = rng.choice((1, 5, 60, 170, 170, 1000))
        yield data[:size]
        data = data[size:]


def heard(reply: Message) -> tuple[bytes, list[tuple[bytes, bytes]], bytes, bool]:
    return reply.start, reply.passed_on, reply.body, reply.complete


@pytest.mark.parametrize("seed", range(12))
async def test_requests_cut_anywhere_are_answered_as_each_is_on_a_connection_of_its_own(lab: Lab, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    await echo(lab)
    sent = list(requests(rng))
    expected = [heard(await lab.ask(data)) for data in sent]
    wire = await lab.client()

    async def speak() -> None:
        whole = rng.random() < 0.5
        for piece in sent if whole else cut(b"".join(sent), rng):
            await wire.send(piece)
            for _ in range(rng.choice((0, 0, 3, 20))):
                await asyncio.sleep(0)

    speaking = asyncio.ensure_future(speak())
    for each in expected:
        assert heard(await wire.response()) == each
    await speaking


async def test_requests_that_no_engine_answers_repeat_themselves_too(lab: Lab) -> None:
    wire = await lab.client()
    for _ in range(4):
        await wire.send(post(BODY, b"/nowhere") + post(BODY, b"/v1/models"))
        assert [(await wire.response()).status for _ in range(2)] == [404, 405]
        await wire.send(post(BODY, b"/nowhere"))
        assert (await wire.response()).status == 404
    lab.proxy.keys = keys("sk-a")
    await wire.send(post(BODY, b"/nowhere"))
    assert (await wire.response()).status == 401

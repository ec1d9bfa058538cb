"""Engines that die: before the client has a byte another replica answers, after it nobody pretends."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import asyncio
import socket

import pytest
from lab import END, OK, SSE, Lab, Script, Wire, answer, chunk, post, until

from router.catalog import Address, Target

pytestmark = pytest.mark.anyio
EVENT = b'data: {"model":"inner","n":1}\n\n'


def dying(*, after: bytes = b"", reset: bool = False, ask: bool = True) -> Script:
    """Says `after`, then closes or resets; `ask`: not before it has the request."""

    async def script(wire: Wire) -> None:
        if ask:
            await wire.request()
        if after:
            await wire.send(after)
        if reset:
            wire.reset()
        else:
            wire.close()

    return script


EARLY = {
    "closes at once": dying(ask=False),
    "closes with no byte": dying(),
    "resets with no byte": dying(reset=True),
    "half a status line": dying(after=b"HTTP/1.1 2"),
    "half a head": dying(after=b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"),
    "half a head and a reset": dying(after=b"HTTP/1.1 200 OK\r\n", reset=True),
    "only 100 Continue": dying(after=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "garbage": dying(after=b"SSH-2.0-OpenSSH_9.6\r\n"),
    "switches protocols": dying(after=b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
    "a status that is none": dying(after=b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n"),
    "two lengths": dying(after=b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
    "a length that is none": dying(after=b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
    "length and chunks": dying(after=b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
    "a head without end": dying(after=b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000),
    "headers without end": dying(after=b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000),
    "100 Continue without end": dying(after=b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000),
}  # fmt: skip


@pytest.mark.parametrize("way", EARLY)
async def test_before_the_first_byte_another_replica_answers(lab: Lab, way: str) -> None:
    bad = await lab.engine(EARLY[way])
    good = await lab.answering(OK)
    assert (await lab.chat()).body == b'{"model":"m","ok":true}'
    assert (len(bad.wires), len(good.wires)) == (1, 1)


@pytest.mark.parametrize("way", EARLY)
async def test_where_there_is_no_other_replica_it_is_502(lab: Lab, way: str) -> None:
    engine = await lab.engine(EARLY[way])
    reply = await lab.chat()
    assert (reply.status, reply.code, reply.complete) == (502, "engine_failed", True)
    assert len(engine.wires) == 1


async def test_refused_connections_lead_to_another_replica(lab: Lab) -> None:
    bad = await lab.engine(EARLY["garbage"])
    bad.refuse()
    await lab.answering(OK)
    wire = await lab.client()
    for _ in range(4):
        await wire.send(post(b'{"model":"m"}'))
        assert (await wire.response()).status == 200
    assert not bad.wires


async def test_each_replica_is_tried_once(lab: Lab) -> None:
    engines = [await lab.engine(EARLY["closes with no byte"]) for _ in range(5)]
    reply = await lab.chat()
    assert (reply.status, reply.code, reply[b"retry-after"]) == (502, "engine_failed", b"1")
    assert [len(engine.wires) for engine in engines] == [1] * 5


async def test_the_other_replica_is_asked_for_its_own_name(lab: Lab) -> None:
    await lab.engine(EARLY["closes with no byte"], served="one")
    other = await lab.answering(answer(b'{"model":"two"}'), served="two", key="sk-two")
    reply = await lab.chat(b'{"a":1,"model":"m"}')
    assert reply.body == b'{"model":"m"}'
    assert other.requests[0].body == b'{"a":1,"model":"two"}'
    assert other.requests[0][b"authorization"] == b"Bearer sk-two"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_kept_connection_that_the_engine_closed_is_replaced_unnoticed(lab: Lab, reset: bool) -> None:
    """It takes the second request on it, and ends it with no byte of an answer."""

    async def first(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        await wire.request()
        if reset:
            wire.reset()

    async def second(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)

    engine = await lab.engine(first, second)
    wire = await lab.client()
    for _ in range(2):
        await wire.send(post(b'{"model":"m"}'))
        assert (await wire.response()).status == 200
    assert len(engine.wires) == 2


async def test_it_is_replaced_only_once(lab: Lab) -> None:
    async def first(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        await wire.request()

    engine = await lab.engine(first, EARLY["closes with no byte"])
    wire = await lab.client()
    for status in (200, 502):
        await wire.send(post(b'{"model":"m"}'))
        assert (await wire.response()).status == status
    assert len(engine.wires) == 2


async def test_a_connection_the_engine_closes_while_it_is_idle_is_forgotten(lab: Lab) -> None:
    async def once(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)

    engine = await lab.engine(once)
    for count in range(1, 4):
        assert (await lab.chat()).status == 200
        await until(lambda: not lab._pools()[0].idle)
        assert len(engine.wires) == count


@pytest.mark.parametrize("served", ["m", "inner"])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("torn", [b"", b"data: {", b'data: {"model":"inner"}\n', b": hm"])
async def test_a_stream_that_dies_ends_with_an_error_event_after_whole_events(
    lab: Lab, served: str, reset: bool, torn: bytes
) -> None:
    release = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE + chunk(EVENT + torn if torn else EVENT))
        await release.wait()
        if reset:
            wire.reset()

    await lab.engine(script, served=served)
    other = await lab.answering(OK)
    wire = await lab.send(post(b'{"model":"m"}'))
    assert (await wire.head()).status == 200
    assert await wire.chunk() == (EVENT if served == "m" else EVENT.replace(b"inner", b"m"))
    release.set()
    last = await wire.chunk()
    assert last.startswith(b'data: {"error":{"message":"the engine of model \'m\' failed')
    assert last.endswith(b"}\n\n")
    assert await wire.chunk() == b""
    assert not other.wires


@pytest.mark.parametrize("served", ["m", "inner"])
@pytest.mark.parametrize(
    "sent",
    [
        b"content-length: 100\r\n\r\n{\"model\":\"inner\",\"x\":1",
        b"content-length: 100\r\n\r\n{\"x\":1",
        b"transfer-encoding: chunked\r\n\r\n5\r\n{\"mod\r\n",
        b"transfer-encoding: chunked\r\n\r\n10\r\n{\"model\":\"inner\"\r\n",
        b"transfer-encoding: chunked\r\n\r\n10\r\n{\"model\":\"inner\"\r\nzz\r\n",
        b"transfer-encoding: chunked\r\n\r\n11\r\n{\"model\":\"inner\"}\r\n0\r\n",
    ],
)  # fmt: skip
async def test_an_answer_that_dies_never_looks_complete(lab: Lab, served: str, sent: bytes) -> None:
    await lab.engine(dying(after=b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + sent), served=served)
    other = await lab.answering(OK)
    reply = await lab.chat()
    if reply.status == 200 and reply.body == b'{"model":"m","ok":true}':
        assert len(other.wires) == 1  # nothing had been sent on, so the other one could still answer
    else:
        assert not reply.complete
        assert not other.wires


async def test_what_is_not_streamed_may_fail_over_as_long_as_it_is_held_back(lab: Lab) -> None:
    bad = dying(after=b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"data":[1,2,')
    await lab.engine(bad, served="inner")
    await lab.answering(OK)
    assert (await lab.chat()).body == b'{"model":"m","ok":true}'


@pytest.mark.parametrize("others", [0, 1])
async def test_an_engine_too_slow_to_begin_is_504_and_nobody_else_is_asked(lab: Lab, others: int) -> None:
    lab.limits.response_timeout = 0.05
    closed = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.gone(5.0)
        closed.set()

    await lab.engine(script)
    rest = [await lab.answering(OK) for _ in range(others)]
    reply = await lab.chat()
    assert (reply.status, reply.code) == (504, "engine_timeout")
    assert not any(engine.wires for engine in rest)
    await asyncio.wait_for(closed.wait(), 1)


async def test_a_stream_that_stands_still_is_ended_with_an_event(lab: Lab) -> None:
    lab.limits.stall_timeout = 0.05

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE + chunk(EVENT))
        await wire.gone(5.0)

    await lab.engine(script)
    reply = await lab.chat()
    assert reply.complete
    assert reply.body.startswith(EVENT + b'data: {"error":')
    assert b"engine_timeout" in reply.body


async def test_an_engine_that_takes_no_connection_is_given_up(lab: Lab) -> None:
    """A listener whose queue is full: the system neither takes nor refuses."""
    lab.limits.connect_timeout = 0.1
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        lab.targets.append(
            Target("full", Address("127.0.0.1", full.getsockname()[1]), served="m", paths={"/v1/chat/completions": "/"})
        )
        lab.model.add(lab.targets[-1])
        reply = await lab.chat()
        for filler in fillers:
            filler.close()
    assert (reply.status, reply.code) == (502, "engine_failed")
    assert "no connection within 0.1 s" in reply.json()["detail"]


async def test_an_error_of_the_engine_is_an_answer_and_not_a_death(lab: Lab) -> None:
    await lab.answering(answer(b'{"error":"oom"}', status=b"500 Oh"))
    other = await lab.answering(OK)
    assert (await lab.chat()).status == 500
    assert not other.wires


@pytest.mark.parametrize("split", [False, True])
async def test_where_events_have_names_the_last_one_has_too(lab: Lab, split: bool) -> None:
    """Clients of Anthropic's API pass over an event without a name."""
    event = b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n'
    await lab.engine(dying(after=SSE + (chunk(event[:9]) + chunk(event[9:]) if split else chunk(event))))
    body = (await lab.chat()).body
    assert body.startswith(event + b'event: error\ndata: {"type":"error","error":{"message":"')
    assert body.endswith(b"}\n\n")


async def test_death_with_the_last_chunk_missing_is_no_end(lab: Lab) -> None:
    await lab.engine(dying(after=SSE + chunk(EVENT) + END[:-2]))
    assert b'"error"' in (await lab.chat()).body


async def test_where_the_other_replica_is_busy_it_is_waited_for(lab: Lab) -> None:
    go_on = asyncio.Event()

    async def busy(wire: Wire) -> None:
        await wire.request()
        await go_on.wait()
        await wire.send(answer(OK))
        await wire.request()
        await wire.send(answer(OK))

    good = await lab.engine(busy, limit=1)
    first = asyncio.ensure_future(lab.chat())
    await until(lambda: lab.targets[0].in_flight == 1)
    bad = await lab.engine(dying())
    second = asyncio.ensure_future(lab.chat())
    await until(lambda: lab.model.waiting == 1)
    go_on.set()
    assert [reply.status for reply in await asyncio.gather(first, second)] == [200, 200]
    assert (len(bad.wires), len(good.wires)) == (1, 1)


async def test_the_port_of_an_engine_that_has_ended_is_not_asked_though_somebody_listens_there(lab: Lab) -> None:
    """A killed engine's port may be another program's before the fleet has noticed: that gets neither the request nor
    the engine's key, and its answer goes to nobody."""
    thief = await lab.answering(OK)
    lab.targets[0].alive = lambda: False
    reply = await lab.chat()
    assert (reply.status, reply.code) == (502, "engine_failed")
    honest = await lab.answering(OK)
    assert (await lab.chat()).status == 200
    assert len(honest.wires) == 1
    assert not any(wire.received for wire in thief.wires)


@pytest.mark.parametrize("reset", [False, True])
async def test_an_engine_that_dies_after_the_last_event_has_answered_whole(lab: Lab, reset: bool) -> None:
    """Only the end of the framing is missing."""
    await lab.engine(dying(after=SSE + chunk(EVENT) + chunk(b"data: [DONE]\n\n"), reset=reset), served="inner")
    reply = await lab.chat()
    assert reply.complete
    assert reply.body == b'data: {"model":"m","n":1}\n\ndata: [DONE]\n\n'

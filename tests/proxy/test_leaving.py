"""A client that leaves closes the engine's connection at once, in each phase, and so does a router that stops."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import asyncio

import pytest
from lab import END, OK, SSE, Lab, Script, Wire, chunk, post, until

pytestmark = pytest.mark.anyio
EVENT = b'data: {"model":"m"}\n\n'
BEGUN = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"model":"m"'
PHASES = {
    "before the first byte": b"",
    "in an answer": BEGUN,
    "while it is held back": BEGUN.replace(b"model", b"x"),
    "mid-stream": SSE + chunk(EVENT),
}


class Stuck:
    """An engine that begins, never ends, and notes when its client has gone."""

    def __init__(self, begin: bytes) -> None:
        self.asked, self.left = asyncio.Event(), asyncio.Event()
        self._begin = begin

    async def __call__(self, wire: Wire) -> None:
        await wire.request()
        await wire.send(self._begin)
        self.asked.set()
        await wire.gone(5.0)
        self.left.set()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("served", ["m", "inner"])
async def test_the_engine_sees_it_within_a_second(lab: Lab, phase: str, how: str, served: str) -> None:
    stuck = Stuck(PHASES[phase])
    await lab.engine(stuck, served=served)
    other = await lab.answering(OK)
    wire = await lab.send(post(b'{"model":"m"}'))
    await asyncio.wait_for(stuck.asked.wait(), 1)
    if phase in ("in an answer", "mid-stream"):
        assert (await wire.head()).status == 200
    getattr(wire, how)()
    await asyncio.wait_for(stuck.left.wait(), 1)
    assert not other.wires


async def test_who_leaves_with_a_request_queued_behind_is_noticed_too(lab: Lab) -> None:
    stuck = Stuck(b"")
    await lab.engine(stuck)
    wire = await lab.send(post(b'{"model":"m"}'))
    await asyncio.wait_for(stuck.asked.wait(), 1)
    await wire.send(post(b'{"model":"m"}') * 3)
    wire.close()
    await asyncio.wait_for(stuck.left.wait(), 1)


async def test_who_sends_garbage_behind_a_request_is_cut_off(lab: Lab) -> None:
    stuck = Stuck(SSE + chunk(EVENT))
    await lab.engine(stuck)
    wire = await lab.send(post(b'{"model":"m"}'))
    await wire.head()
    assert await wire.chunk() == EVENT
    await wire.send(b"\x16\x03\x01 garbage\r\n\r\n")
    assert await wire.rest() == b""
    await asyncio.wait_for(stuck.left.wait(), 1)


async def test_who_leaves_during_the_upload_costs_nothing(lab: Lab) -> None:
    engine = await lab.answering(OK)
    wire = await lab.send(post(b'{"model":"m"}')[:-1])
    await until(lambda: lab.in_work)
    wire.close()
    await until(lambda: not lab.in_work, 1)
    assert not engine.wires


async def test_who_leaves_as_the_answer_ends_harms_no_later_request(lab: Lab) -> None:
    await lab.answering(OK)
    for _ in range(50):
        wire = await lab.send(post(b'{"model":"m"}'))
        wire.close()
        assert (await lab.chat()).status == 200


@pytest.mark.parametrize("phase", ["before the first byte", "mid-stream", "in an answer", "waiting", "upload"])
async def test_a_router_that_stops_ends_each_answer_as_well_as_it_can(lab: Lab, phase: str) -> None:
    stuck = Stuck(PHASES.get(phase, b""))
    if phase != "waiting":
        await lab.engine(stuck)
    data = post(b'{"model":"m"}')
    wire = await lab.send(data[:-1] if phase == "upload" else data)
    if phase in PHASES:
        await asyncio.wait_for(stuck.asked.wait(), 1)
    if phase in ("mid-stream", "in an answer"):
        await wire.head()
    await until(lambda: lab.in_work)
    lab.server.should_exit = True
    if phase == "mid-stream":
        assert await wire.chunk() == EVENT
        assert b'"code":"shutting_down"' in await wire.chunk()
        assert await wire.chunk() == b""
    elif phase == "in an answer":
        await wire.rest()
    else:
        reply = await wire.response()
        assert (reply.status, reply.code, reply[b"retry-after"]) == (503, "shutting_down", b"5")
    if phase in PHASES:
        await asyncio.wait_for(stuck.left.wait(), 1)


def streaming(piece: bytes, count: int, sent: list[int], stopped: asyncio.Event) -> Script:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE)
        try:
            for number in range(count):
                wire._writer.write(chunk(piece))
                try:
                    async with asyncio.timeout(0.3):
                        await wire._writer.drain()
                except TimeoutError:
                    stopped.set()
                    await wire._writer.drain()
                sent[0] = (number + 1) * len(piece)
            await wire.send(END)
        except ConnectionError:
            stopped.set()
            raise

    return script


async def test_a_client_that_does_not_read_stops_the_engine_and_not_the_memory(lab: Lab) -> None:
    """100 MB for a client that takes 1 KB: the engine is stopped after what the sockets hold, and goes with the client."""
    piece = b"data: " + b"x" * 65_000 + b"\n\n"
    sent, stopped = [0], asyncio.Event()
    await lab.engine(streaming(piece, 1_600, sent, stopped))
    wire = await lab.client(limit=1024)
    await wire.send(post(b'{"model":"m"}'))
    await wire.exactly(1024)
    await asyncio.wait_for(stopped.wait(), 10)
    (connection,) = lab._pools()[0].busy
    assert sum(map(len, connection._chunks)) <= 512 * 1024
    assert sum(c.transport.get_write_buffer_size() for c in lab.server.server_state.connections) <= 1 << 20
    assert sent[0] < 30 << 20
    wire.reset()
    await until(lambda: not lab.in_work, 1)


async def test_a_client_that_reads_late_gets_every_byte(lab: Lab) -> None:
    piece = b"data: " + b"x" * 65_000 + b"\n\n"
    sent, stopped = [0], asyncio.Event()
    lab.limits.stall_timeout = 0.2  # the client's slowness must not be taken for the engine's
    await lab.engine(streaming(piece, 300, sent, stopped))
    wire = await lab.client(limit=1024)
    await wire.send(post(b'{"model":"m"}'))
    await asyncio.wait_for(stopped.wait(), 10)
    await asyncio.sleep(1.2)  # beyond the stall timeout and the sweep
    reply = await wire.response()
    assert reply.complete
    assert reply.body == piece * 300


async def test_a_client_that_never_reads_is_given_up(lab: Lab) -> None:
    sent, stopped = [0], asyncio.Event()
    await lab.engine(streaming(b"data: " + b"x" * 65_000 + b"\n\n", 1_000_000, sent, stopped), limit=1)
    wire = await lab.client(limit=1024)
    await wire.send(post(b'{"model":"m"}'))
    await asyncio.wait_for(stopped.wait(), 10)
    assert lab.targets[0].in_flight == 1
    await until(lambda: lab.targets[0].in_flight == 0)

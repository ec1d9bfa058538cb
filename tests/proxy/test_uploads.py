"""Forms that are sent on while they still come: nothing is gathered, nothing that is broken ends well."""

import asyncio
import os

import pytest
from lab import END, OK, Engine, Lab, Wire, answer, chunk, post, soon, until

from router.proxy.client import ClientProtocol
from router.proxy.upload import KEEP, Upload

pytestmark = pytest.mark.anyio

PATH = b"/v1/audio/transcriptions"
KIND = b"multipart/form-data; boundary=B"
MODEL = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
INNER = MODEL[:-3] + b"inner\r\n"
FILE = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
LAST = b"\r\n--B--\r\n"
MB = 1 << 20


def head(length: int | None, path: bytes = PATH, extra: bytes = b"") -> bytes:
    """Of a form that is so long, or chunked."""
    framing = b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % length
    return post(b"", path, kind=KIND, extra=extra).replace(b"content-length: 0\r\n", framing)


def client_of(lab: Lab) -> ClientProtocol:
    (client,) = lab.server._connections()
    return client


def upload_of(lab: Lab) -> Upload:
    turn = client_of(lab)._turn
    assert turn is not None
    assert isinstance(turn.work, Upload)
    return turn.work


def held(lab: Lab) -> int:
    """Bytes of a form that are in the router."""
    turn = client_of(lab)._turn
    kept = upload_of(lab)._size if turn is not None and turn.work is not None and upload_of(lab)._kept else 0
    parts = 0 if turn is None else sum(map(len, turn.parts))
    return kept + parts + sum(each._transport.get_write_buffer_size() for pool in lab._pools() for each in pool.busy)


class Taker(Engine):
    """An engine that takes what comes, of which `taken` counts the bytes behind the head, and does no more."""

    def __init__(self) -> None:
        super().__init__(self._take)
        self.taken = bytearray()
        self.closed = asyncio.Event()

    async def _take(self, wire: Wire) -> None:
        self.requests.append(await wire.head())
        while data := await wire.some():
            self.taken += data
        self.closed.set()


@pytest.fixture
async def taker(lab: Lab) -> Taker:
    engine = Taker()
    await engine.start()
    lab.engines.append(engine)
    lab.add(engine, served="inner")
    return engine


async def test_the_engine_has_what_the_client_has_sent_so_far(lab: Lab, taker: Taker) -> None:
    wire = await lab.send(head(5000) + MODEL + FILE)
    await until(lambda: taker.taken == INNER + FILE)
    assert taker.requests[0][b"content-length"] == b"5004"
    await wire.send(b"a" * 100)
    await until(lambda: taker.taken == INNER + FILE + b"a" * 100)


async def test_chunks_go_on_as_chunks(lab: Lab) -> None:
    pieces = [MODEL + FILE, b"sound", LAST]
    came: list[bytes] = []

    async def script(wire: Wire) -> None:
        assert (await wire.head())[b"transfer-encoding"] == b"chunked"
        while data := await wire.chunk():
            came.append(data)
        await wire.send(OK)

    await lab.engine(script, served="inner")
    wire = await lab.send(head(None))
    for number, piece in enumerate(pieces):
        await wire.send(chunk(piece))
        await until(lambda: len(came) > number)  # noqa: B023
    await wire.send(END)
    assert (await wire.response()).status == 200
    assert came == [INNER + FILE, *pieces[1:]]


@pytest.mark.parametrize("pieces", [(MODEL, FILE, b"sound" + LAST), (FILE, b"sound\r\n", MODEL[:-1], b"\n--B--\r\n")])
async def test_the_length_is_that_of_the_engines_form(lab: Lab, pieces: tuple[bytes, ...]) -> None:
    engine = await lab.answering(OK, served="inner")
    wire = await lab.send(head(sum(map(len, pieces))))
    await until(lambda: lab.in_work)
    for number, piece in enumerate(pieces):
        await wire.send(piece)
        size = sum(map(len, pieces[: number + 1]))
        await until(lambda: not (turn := client_of(lab)._turn) or turn.size == size)  # noqa: B023
    assert (await wire.response()).status == 200
    assert engine.requests[0].body == b"".join(pieces).replace(MODEL[:-2], INNER[:-2])


async def test_no_engine_is_asked_before_the_model_is_known(lab: Lab, taker: Taker) -> None:
    lab.limits.max_body = 4 * MB
    wire = await lab.send(head(3 * MB) + FILE + b"x" * 2 * MB)
    await until(lambda: lab.in_work and upload_of(lab)._size == len(FILE) + 2 * MB)
    assert not taker.wires
    await wire.send(b"\r\n" + MODEL + FILE)
    await until(lambda: taker.taken == FILE + b"x" * 2 * MB + b"\r\n" + INNER + FILE)


async def test_60_mb_are_never_in_memory(lab: Lab) -> None:
    lab.limits.max_body = 64 * MB
    sound = os.urandom(60 * MB)
    body = MODEL + FILE + sound + LAST
    go = asyncio.Event()
    came = bytearray()

    async def script(wire: Wire) -> None:
        length = int((await wire.head())[b"content-length"] or 0)
        await go.wait()
        while len(came) < length:
            came.extend(await wire.some())
            most.append(held(lab))
        await wire.send(OK)

    most: list[int] = []
    await lab.engine(script)
    wire = await lab.client()
    sending = asyncio.ensure_future(wire.send(head(len(body)) + body))
    await until(lambda: lab.in_work and client_of(lab)._body_paused)
    most.append(held(lab))
    taken = client_of(lab)._turn
    assert taken is not None
    assert taken.size < 30 * MB  # the rest is in sockets, and at the client
    assert client_of(lab)._stalled is None  # whose pause this is not
    go.set()
    await sending
    assert (await wire.response()).status == 200
    assert came == body
    assert max(most) < 3 * MB


async def test_a_client_that_leaves_midway_ends_the_engines_request(lab: Lab, taker: Taker) -> None:
    wire = await lab.send(head(5000) + MODEL + FILE)
    await until(lambda: taker.taken)
    wire.close()
    await soon(taker.closed.wait())
    await until(lambda: lab.records)
    assert (lab.records[0].error, lab.records[0].target) == ("client_gone", "m#0")


async def test_a_client_is_watched_again_once_all_of_it_is_here(lab: Lab, taker: Taker) -> None:
    """Else nobody would notice that it leaves while the engine is at work."""
    wire = await lab.send(head(len(MODEL + FILE + LAST)) + MODEL + FILE)
    await until(lambda: taker.taken)
    upload_of(lab).full()
    client_of(lab).data_received(LAST)
    wire.close()
    await soon(taker.closed.wait())
    assert taker.taken == INNER + FILE + LAST
    await until(lambda: lab.records)
    assert lab.records[0].error == "client_gone"


async def test_a_client_that_pauses_is_told_and_the_engines_request_ends(lab: Lab, taker: Taker) -> None:
    lab.limits.body_timeout = 0.1
    wire = await lab.send(head(5000) + MODEL + FILE)
    reply = await wire.response()
    assert (reply.status, reply.code) == (408, "body_timeout")
    await soon(taker.closed.wait())


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (b"\r\n" + MODEL[:-2] + LAST, "duplicate_model"),
        (b"\r\n--Bad\r\n" + LAST, "invalid_form"),
        (b"\r\n--B-", "invalid_form"),
        (b"\r\n--B\r\nno head\r\n\r\n" + LAST, "invalid_form"),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_of_a_form_that_turns_out_broken_the_engine_never_sees_the_end(
    lab: Lab, taker: Taker, end: bytes, code: str, framing: str
) -> None:
    begin = MODEL + FILE + b"sound"
    chunked = framing == "chunks"
    wire = await lab.send(head(None if chunked else len(begin + end)) + (chunk(begin) if chunked else begin))
    await until(lambda: taker.taken)
    await wire.send(chunk(end) + END if chunked else end)
    reply = await wire.response()
    assert (reply.status, reply.code) == (400, code)
    await soon(taker.closed.wait())
    if chunked:
        assert not taker.taken.endswith(END)
    else:
        assert len(taker.taken) < int(taker.requests[0][b"content-length"] or 0)


async def test_an_early_answer_is_passed_on_and_the_engine_gets_no_more(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.send(answer(b'{"error":"too much"}', status=b"413 Content Too Large"))
        await wire.rest()

    engine = await lab.answering(OK)
    engine.scripts.insert(0, script)
    body = MODEL + FILE + b"x" * 3000
    wire = await lab.send(head(len(body + LAST)) + body)
    reply = await wire.response()
    assert (reply.status, reply.body) == (413, b'{"error":"too much"}')
    await engine.left()
    await wire.send(LAST + post(b'{"model":"m"}'))
    assert (await wire.response()).status == 200


async def test_a_client_that_reads_after_it_has_sent_all_gets_the_early_answer(lab: Lab) -> None:
    lab.limits.max_body = 64 * MB

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.send(answer(b"{}", status=b"413 Content Too Large"))

    await lab.engine(script)
    wire = await lab.client()
    await wire.send(head(40 * MB) + MODEL + FILE + b"x" * (40 * MB - len(MODEL + FILE + LAST)) + LAST)
    assert (await wire.response()).status == 413


async def dying_after(size: int, wire: Wire) -> None:
    await wire.head()
    await wire.exactly(size)
    wire.reset()


async def test_what_is_kept_is_sent_to_another_replica(lab: Lab) -> None:
    bad = await lab.engine(lambda wire: dying_after(len(MODEL + FILE) + 1000, wire))
    good = await lab.answering(OK, served="inner")
    body = MODEL + FILE + b"x" * 1000
    wire = await lab.send(head(len(body) + 6 + len(LAST)) + body)
    await until(lambda: good.wires)
    assert bad.wires
    await wire.send(b"behind" + LAST)
    assert (await wire.response()).status == 200
    assert good.requests[0].body == INNER + FILE + b"x" * 1000 + b"behind" + LAST


async def test_what_comes_between_two_replicas_is_not_lost(lab: Lab) -> None:
    lab.limits.max_body = 8 * MB
    rest = b"x" * 6 * MB + LAST
    go = asyncio.Event()
    there = bytearray()

    async def busy(wire: Wire) -> None:
        assert await wire.request()
        await go.wait()
        await wire.send(OK)
        request = await wire.head()
        there.extend(await wire.exactly(int(request[b"content-length"] or 0)))
        await wire.send(OK)

    async def full(wire: Wire) -> None:
        await wire.head()
        await wire.exactly(len(MODEL + FILE))
        await wire.send(answer(b"{}", status=b"503 Service Unavailable"))

    other = await lab.engine(busy, limit=1)
    first = await lab.send(post(b'{"model":"m"}'))
    await until(lambda: lab.targets[0].in_flight and other.wires)
    await lab.engine(full)
    second = await lab.send(head(len(MODEL + FILE + rest)) + MODEL + FILE)
    await until(lambda: lab.model.waiting)
    sending = asyncio.ensure_future(second.send(rest))
    await until(lambda: any(client._body_paused for client in lab.server._connections()))
    go.set()
    assert (await first.response()).status == 200
    assert (await second.response()).status == 200
    assert there == MODEL + FILE + rest
    await sending


async def test_what_is_no_longer_kept_is_not_sent_in_part(lab: Lab) -> None:
    lab.limits.max_body = 16 * MB
    await lab.engine(lambda wire: dying_after(KEEP + 300_000, wire))
    other = await lab.answering(OK)
    wire = await lab.send(head(8 * MB) + MODEL + FILE)
    await until(lambda: lab.engines[0].wires)
    await wire.send(b"x" * 2 * MB)
    reply = await wire.response()
    assert (reply.status, reply.code) == (502, "engine_failed")
    assert not other.wires


async def test_nor_after_an_engines_503(lab: Lab) -> None:
    lab.limits.max_body = 16 * MB

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.exactly(KEEP + 300_000)
        await wire.send(answer(b"{}", status=b"503 Service Unavailable"))
        await wire.rest()

    await lab.engine(script)
    other = await lab.answering(OK)
    wire = await lab.send(head(8 * MB) + MODEL + FILE)
    await until(lambda: lab.engines[0].wires)
    await wire.send(b"x" * 2 * MB)
    assert (await wire.response()).status == 503
    assert not other.wires


async def test_a_kept_connection_that_has_died_is_replaced(lab: Lab) -> None:
    async def once(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        await wire.head()
        wire.reset()

    engine = await lab.engine(served="inner")
    engine.answering(OK)
    engine.scripts.insert(0, once)
    wire = await lab.send(post(b'{"model":"m"}'))
    assert (await wire.response()).status == 200
    await wire.send(head(len(MODEL + FILE + LAST)) + MODEL + FILE)
    await until(lambda: len(engine.wires) == 2)
    await wire.send(LAST)
    assert (await wire.response()).status == 200
    assert engine.requests[0].body == INNER + FILE + LAST


async def test_who_waits_for_a_replica_is_not_read_on(lab: Lab) -> None:
    lab.limits.max_body = 64 * MB
    begun, go = asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        assert await wire.request()
        begun.set()
        await go.wait()
        await wire.send(OK)
        request = await wire.head()
        assert (await wire.exactly(int(request[b"content-length"] or 0))) == body
        await wire.send(OK)

    await lab.engine(script, limit=1)
    body = MODEL + FILE + os.urandom(20 * MB) + LAST
    first = await lab.send(post(b'{"model":"m"}'))
    await begun.wait()
    second = await lab.client()
    sending = asyncio.ensure_future(second.send(head(len(body)) + body))
    await until(lambda: any(client._body_paused for client in lab.server._connections()))
    assert max(client._turn.size for client in lab.server._connections() if client._turn) < KEEP + MB
    go.set()
    assert (await first.response()).status == 200
    await sending
    assert (await second.response()).status == 200


async def test_an_engine_that_takes_no_more_is_given_up(lab: Lab) -> None:
    lab.limits.max_body = 64 * MB
    lab.limits.response_timeout = 0.2
    stop = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await stop.wait()

    await lab.engine(script)
    wire = await lab.client()
    sending = asyncio.ensure_future(wire.send(head(60 * MB) + MODEL + FILE + b"x" * 60 * MB))
    reply = await wire.response()
    assert (reply.status, reply.code) == (504, "engine_timeout")
    sending.cancel()
    stop.set()


async def test_a_slow_client_costs_the_engine_none_of_its_time(lab: Lab) -> None:
    """Its time to answer counts from the form's end on."""
    go = asyncio.Event()

    async def script(wire: Wire) -> None:
        assert await wire.request()
        await go.wait()
        await wire.send(OK)

    await lab.engine(script)
    wire = await lab.send(head(len(MODEL + FILE + LAST)) + MODEL + FILE)
    (connection,) = await until(lambda: lab._pools() and lab._pools()[0].busy)
    assert connection.deadline == float("inf")
    await wire.send(LAST)
    await until(lambda: connection.deadline < float("inf"))
    go.set()
    assert (await wire.response()).status == 200


@pytest.mark.parametrize("path", [b"/openai/deployments/m/audio/transcriptions", b"/v1/engines/m/audio/transcriptions"])
async def test_a_model_in_the_path_is_put_into_the_form(lab: Lab, path: bytes) -> None:
    engine = await lab.answering(OK, served="inner")
    for body, there in (
        (b"before\r\n" + FILE + LAST, b"before\r\n" + INNER + FILE + LAST),
        (MODEL.replace(b"\r\nm\r\n", b"\r\nwhisper-1\r\n") + FILE + LAST, INNER + FILE + LAST),
    ):
        assert (await lab.ask(head(len(body), path) + body)).status == 200
        assert engine.requests.pop().body == there


async def test_who_waits_to_be_told_is_told(lab: Lab) -> None:
    engine = await lab.answering(OK, served="inner")
    wire = await lab.send(head(len(MODEL + FILE + LAST), extra=b"expect: 100-continue\r\n"))
    assert (await wire.head()).status == 100
    await wire.send(MODEL + FILE + LAST)
    assert (await wire.response()).status == 200
    assert engine.requests[0].body == INNER + FILE + LAST


async def test_uploads_behind_one_another_go_on_in_order(lab: Lab) -> None:
    engine = await lab.answering(OK, served="inner")
    forms = [MODEL + FILE + b"%d" % number * 100_000 + LAST for number in range(4)]
    wire = await lab.client()
    await wire.send(b"".join(head(len(form)) + form for form in forms))
    for _ in forms:
        assert (await wire.response()).status == 200
    assert [request.body for request in engine.requests] == [INNER + form[len(MODEL) :] for form in forms]


async def test_what_has_come_of_an_upload_in_the_queue_goes_on_when_its_turn_has_come(lab: Lab) -> None:
    lab.limits.max_body = 64 * MB
    go, read = asyncio.Event(), asyncio.Event()
    there = bytearray()

    async def script(wire: Wire) -> None:
        await wire.request()
        await go.wait()
        await wire.send(OK)
        length = int((await wire.head())[b"content-length"] or 0)
        await read.wait()
        while len(there) < length:
            there.extend(await wire.some())
        await wire.send(OK)

    await lab.engine(script)
    body = MODEL + FILE + b"x" * 40 * MB + LAST
    wire = await lab.client()
    await wire.send(post(b'{"model":"m"}') + head(len(body)))
    await wire.send(body[: 20 * MB])
    queued = client_of(lab)._queue
    await until(lambda: queued and queued[0].size == 20 * MB)
    go.set()
    assert (await wire.response()).status == 200
    await until(lambda: client_of(lab)._body_paused)
    assert client_of(lab)._reading_paused
    read.set()
    await until(lambda: len(there) == 20 * MB)
    await wire.send(body[20 * MB :])
    assert (await wire.response()).status == 200
    assert there == body


async def test_what_is_too_large_is_refused_midway(lab: Lab, taker: Taker) -> None:
    lab.limits.max_body = 10_000
    wire = await lab.send(head(None) + chunk(MODEL + FILE))
    await until(lambda: taker.taken)
    await wire.send(chunk(b"x" * 10_000))
    reply = await wire.response()
    assert (reply.status, reply.code) == (413, "body_too_large")
    await soon(taker.closed.wait())

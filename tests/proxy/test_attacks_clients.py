"""Attacks on what clients of all kinds are promised: requests with odd members, answers of parts, signs of life."""

import asyncio
import random
import tracemalloc
from collections.abc import Sequence

import msgspec
import pytest
from lab import END, OK, SSE, Engine, Lab, Message, Script, Wire, answer, chunk, post, soon, until
from wanting import NOTHING, PLAIN, Wants

from launchers.base import Dialect
from router.catalog import Manner
from router.errors import InvalidRequest
from router.proxy.dialects import adapt
from router.proxy.dialects.members import MAX_ITEMS, MAX_MARKS

pytestmark = pytest.mark.anyio
COUNTS = Dialect(counts=True)
STREAM = b'{"model":"m","stream":true}'
RERANK = b'{"model":"m","query":"q","documents":["a"]}'
FORM = b"multipart/form-data; boundary=b"
FILE = b'\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 5_000 + b"\r\n--b--\r\n"


def vectors(count: int) -> bytes:
    items = b",".join(b'{"index":%d,"embedding":[0.5]}' % index for index in range(count))
    return b'{"data":[%b],"model":"e"}' % items


async def embedding(lab: Lab, *answers: bytes) -> Engine:
    """An engine of the model `e`, which is asked for one text at a time."""
    model = lab.declare("e", kind="embedding", manner=Manner(wants=Wants(max_inputs=1)))
    engine = Engine().answering(*answers)
    await engine.start()
    lab.engines.append(engine)
    lab.add(engine, of=model, served="e")
    return engine


async def embed(lab: Lab, *texts: str) -> Message:
    return await lab.ask(post(msgspec.json.encode({"model": "e", "input": texts}), b"/v1/embeddings"))


def late(first: bytes, rest: bytes, go: asyncio.Event) -> Script:
    """Answers in two pieces, the second one when it is told to."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(first)
        await go.wait()
        await wire.send(rest)

    return script


# What a client may write


@pytest.mark.parametrize(
    ("options", "becomes"),
    [
        (b"1e999", None),
        (b'{"include_usage":1e999}', None),
        (b'{"x":1e999}', b'{"x":1e999,"include_usage":true}'),
        (b'{"include_usage":null,"x":[1.50]}', b'{"include_usage":true,"x":[1.50]}'),
        (b"[]", None),
    ],
)
async def test_odd_options_of_a_stream_are_for_the_engine_to_refuse(
    lab: Lab, options: bytes, becomes: bytes | None
) -> None:
    engine = await lab.answering(OK, dialect=COUNTS)
    await lab.chat(b'{"model":"m","stream":true,"stream_options":%b}' % options)
    (request,) = engine.requests
    assert request.body == b'{"model":"m","stream":true,"stream_options":%b}' % (becomes or options)


async def test_a_body_is_too_deep_or_goes_on_whatever_reads_it(lab: Lab) -> None:
    """It is read more than once, and each time there is less of the stack left."""
    await lab.answering(OK, dialect=Dialect(counts=True, nulls=False))
    wire = await lab.client()
    seen = set()
    for depth in range(900, 1000):
        deep = b"[" * depth + b"]" * depth
        for body in (
            b'{"model":"m","stream":true,"stream_options":{"x":%b}}' % deep,
            b'{"model":"m","null":0,"x":{"a":%b}}' % deep,
        ):
            await wire.send(post(body))
            seen.add((await wire.response()).status)
    assert seen == {200, 400}


@pytest.mark.parametrize("item", [b'""', b'"a"', b'{"text":"a"}', b"1", b"[]"])
@pytest.mark.parametrize(
    ("path", "member"), [("/v1/embeddings", b'"input"'), ("/v1/rerank", b'"query":"q","documents"')]
)
def test_more_texts_than_can_be_looked_at_are_refused(path: str, member: bytes, item: bytes) -> None:
    for count in (MAX_ITEMS + 1, MAX_MARKS + 2):
        body = b'{"model":"m",%b:[%b]}' % (member, b",".join([item] * count))
        with pytest.raises(InvalidRequest):
            adapt(path, body, Dialect(tokens=False), NOTHING)


@pytest.mark.parametrize("way", [{"stream_options": {}}, {"x": None}])
async def test_more_members_than_can_be_looked_at_are_refused(lab: Lab, way: dict[str, object]) -> None:
    lab.limits.max_body = 64 << 20
    engine = await lab.answering(OK, dialect=Dialect(counts=True, nulls=False))
    members = b",".join([b'"%x":0' % number for number in range(MAX_MARKS + 1)])
    body = msgspec.json.encode({"model": "m", "stream": True, **way})[:-1] + b"," + members + b"}"
    assert (await lab.chat(body)).code == "invalid_json"
    assert not engine.requests


def test_many_commas_in_long_texts_are_no_matter() -> None:
    texts = [", " * (MAX_MARKS // 10)] * 20
    body = msgspec.json.encode({"model": "m", "query": "q", "documents": texts})
    adapter = adapt("/v1/rerank", body, PLAIN, NOTHING)
    assert adapter is not None
    assert msgspec.json.decode(adapter.bodies[0])["documents"] == texts


def test_what_stands_beside_a_thousand_texts_is_in_memory_once() -> None:
    """A body of a megabyte would become a gigabyte."""
    body = msgspec.json.encode({"model": "m", "user": "u" * 1_000_000, "input": ["a"] * 1_000})
    adapter = adapt("/v1/embeddings", body, PLAIN, Wants(max_inputs=1))
    assert adapter is not None
    assert len(adapter.bodies) == 1_000
    assert adapter.bodies[999] is not adapter.bodies[999]


def test_too_many_parts_are_refused() -> None:
    body = msgspec.json.encode({"model": "m", "input": ["a"] * 10_001})
    with pytest.raises(InvalidRequest, match="send at most 10000"):
        adapt("/v1/embeddings", body, PLAIN, Wants(max_inputs=1))


# Answers of which the client would get but a part


@pytest.mark.parametrize(
    "second",
    [
        SSE + chunk(b"data: {}\n\n") + END,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        answer(vectors(2), status=b"206 Partial Content"),
        answer(b"", status=b"202 Accepted"),
        answer(b"[" * 5_000),
    ],
    ids=["a stream", "no content", "partial content", "accepted", "too deep"],
)
async def test_a_part_that_succeeds_in_another_way_is_not_the_whole(lab: Lab, second: bytes) -> None:
    engine = await embedding(lab, answer(vectors(1)), second)
    assert (await embed(lab, "a", "b")).code == "engine_failed"
    assert len(engine.requests) == 2


@pytest.mark.parametrize("reply", [SSE + chunk(b"data: {}\n\n") + END, b"HTTP/1.1 204 No Content\r\n\r\n"])
async def test_a_rerank_that_is_none_is_no_success(lab: Lab, reply: bytes) -> None:
    await lab.answering(reply)
    assert (await lab.ask(post(RERANK, b"/v1/rerank"))).code == "engine_failed"


async def test_parts_are_too_large_together(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.proxy.attempt.MAX_WHOLE", 1_000)
    engine = await embedding(lab, answer(vectors(1) + b" " * 400))
    assert (await embed(lab, "a", "b")).status == 200
    assert (await embed(lab, *"abcdef")).code == "engine_failed"
    assert len(engine.requests) == 5


# Signs of life


async def test_no_sign_of_life_breaks_into_an_answer_that_is_held_back(lab: Lab) -> None:
    """Its name has to be found before any of it goes on."""
    lab.limits.keepalive = 0.01
    go = asyncio.Event()
    body = b'{"error":{"message":"no"}}'
    head = answer(body, status=b"500 Internal Server Error")[: -len(body)]
    await lab.engine(late(head, body, go), served="other")
    wire = await lab.send(post(STREAM))
    with pytest.raises(TimeoutError):
        await soon(wire.some(), 0.2)
    go.set()
    reply = await wire.response()
    assert (reply.status, reply.body) == (500, body)


async def test_signs_of_life_go_on_behind_a_head_without_events(lab: Lab) -> None:
    """vLLM sends its head at once, and then reads the prompt."""
    lab.limits.keepalive = 0.01
    go = asyncio.Event()
    event = b'data: {"model":"m"}\n\n'
    await lab.engine(late(SSE, chunk(event[:9]) + chunk(event[9:]) + END, go))
    wire = await lab.send(post(STREAM))
    assert (await wire.head()).status == 200
    for _ in range(3):
        assert await wire.chunk() == b": ping\n\n"
    go.set()
    while (piece := await wire.chunk()) == b": ping\n\n":
        pass
    assert piece == event
    assert await wire.chunk() == b""


async def test_an_engine_that_dies_behind_its_head_is_stood_in_for(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE + chunk(b"data: {"))

    dying = await lab.engine(script)
    lab.declare("other")
    lab.model.manner = Manner(fallback=("other",))
    lab.catalog.replace(list(lab.catalog))
    good = Engine().answering(SSE + chunk(b"data: 1\n\n") + END)
    await good.start()
    lab.engines.append(good)
    lab.add(good, of=lab.catalog.resolve("other"))
    reply = await lab.chat(STREAM)
    assert (reply.status, reply.body) == (200, b"data: 1\n\n")
    assert len(dying.wires) == 1


async def test_an_engines_refusal_after_a_sign_of_life_is_recorded_as_a_failure(lab: Lab) -> None:
    lab.limits.keepalive = 0.01
    go = asyncio.Event()
    await lab.engine(late(b"", answer(b'{"error":{"message":"no"}}', status=b"500 Internal Server Error"), go))
    wire = await lab.send(post(STREAM))
    await wire.head()
    go.set()
    while await wire.chunk():
        pass
    (record,) = lab.records
    assert (record.status, record.error) == (200, "engine_failed")


# Forms


@pytest.mark.parametrize(
    "more", [b"; boundary=c", b'; x="; boundary=c; y"', b"; boundary*=utf-8''c", b"; Boundary*0=c"]
)
async def test_a_form_with_two_boundaries_could_be_two_forms(lab: Lab, more: bytes) -> None:
    engine = await lab.answering(OK)
    body = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    kind = b"multipart/form-data; boundary=b" + more
    reply = await lab.ask(post(body, b"/v1/audio/transcriptions", kind=kind))
    assert reply.code == "invalid_form"
    assert not engine.requests


async def test_a_body_that_was_asked_for_is_read_over_behind_an_early_answer(lab: Lab) -> None:
    """A connection that is closed under a client that still sends could take the answer along."""

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.send(answer(b"{}", status=b"413 Payload Too Large"))

    await lab.engine(script)
    head = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\n'
    file = b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 500_000 + b"\r\n--b--\r\n"
    wire = await lab.send(
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: r\r\nexpect: 100-continue\r\n"
        b"content-type: multipart/form-data; boundary=b\r\ncontent-length: %d\r\n\r\n" % len(head + file)
    )
    assert (await wire.head()).status == 100
    await wire.send(head)
    assert (await wire.response()).status == 413
    await wire.send(file + b"GET /health HTTP/1.1\r\nhost: r\r\n\r\n")
    assert (await wire.response()).status == 200


# Memory


@pytest.mark.parametrize(("path", "kind"), [(b"/v1/chat/completions", None), (b"/v1/audio/transcriptions", FORM)])
async def test_a_body_in_chunks_of_two_bytes_takes_its_size(lab: Lab, path: bytes, kind: bytes | None) -> None:
    lab.limits.max_body = 8 << 20
    head = post(b"", path, kind=kind).replace(b"content-length: 0", b"transfer-encoding: chunked")
    wire = await lab.send(head + chunk(b'{"x":"' if kind is None else b"--b" + FILE[:-9]))
    await until(lambda: lab.in_work)
    tracemalloc.start()
    try:
        await wire.send(chunk(b"xx") * 200_000)
        (client,) = lab.server._connections()
        await until(lambda: client._turn is not None and client._turn.size > 400_000)
        assert tracemalloc.get_traced_memory()[0] < 8 * 400_000
    finally:
        tracemalloc.stop()


# Whoever leaves, whenever


PHASES = (b"", SSE, SSE + chunk(b"data: 1\n\n"), OK[:-5], OK)


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_left_of_clients_that_leave_at_any_time(lab: Lab, seed: int) -> None:
    """Of streams, parts, forms and what is stood in for; the laboratory looks at the books when it ends."""
    rng = random.Random(seed)  # noqa: S311
    lab.limits.keepalive = 0.005
    lab.model.manner = Manner(fallback=("other",))
    lab.declare("other")

    async def script(wire: Wire) -> None:
        while await wire.request():
            await asyncio.sleep(rng.choice((0, 0, 0.01)))
            if rng.random() < 0.3:
                return
            await wire.send(rng.choice((*PHASES, answer(vectors(1)), answer(b"{}", status=b"503 X"))))

    await embedding(lab, OK)
    for name in ("m", "m", "other", "e"):
        engine = Engine(script)
        await engine.start()
        lab.engines.append(engine)
        lab.add(engine, of=lab.catalog.resolve(name), limit=rng.choice((None, 1)))
    await soon(asyncio.gather(*[_leave(lab, rng, rng.choice(REQUESTS)) for _ in range(150)]))


REQUESTS: Sequence[bytes] = (
    post(STREAM),
    post(b'{"model":"m"}'),
    post(b'{"model":"e","input":["a","b","c"]}', b"/v1/embeddings"),
    post(RERANK, b"/v1/rerank"),
    post(
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\n'
        b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"x" * 5_000 + b"\r\n--b--\r\n",
        b"/v1/audio/transcriptions",
        kind=b"multipart/form-data; boundary=b",
    ),
)


async def _leave(lab: Lab, rng: random.Random, data: bytes) -> None:
    await asyncio.sleep(rng.random() / 10)
    wire = await lab.client()
    await wire.send(data[: rng.choice((len(data), rng.randrange(len(data))))])
    await asyncio.sleep(rng.choice((0, 0.001, 0.02, 0.05)))
    rng.choice((wire.close, wire.reset))()

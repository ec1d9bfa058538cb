"""`model` on its way out: the client reads the name it asked for; where the names are equal, the engine's own bytes."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import asyncio
import json

import pytest
from lab import END, SSE, Lab, Wire, answer, chunk, post

pytestmark = pytest.mark.anyio

CHAT = b'data: {"id":"1","object":"chat.completion.chunk","model":"inner","choices":[{"delta":{"content":"h\xc3\xa9"}}]}\n\n'
COMPLETION = b'data: {"id":"1","choices":[{"text":"{\\"model\\":\\"inner\\"}"}],"model":"inner"}\n\n'
RESPONSE = b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","output":[{"model":"inner"}],"model":"inner"}}\n\n'
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"\\"model\\": \\"inner\\""}\n\n'
MESSAGE = b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"inner","usage":{"model":"inner"}}}\n\n'
DONE = b"data: [DONE]\n\n"
COMMENT = b': "model":"inner"\n\nretry: 5\n\n'
ODD = b'data: {"model": "inner"\n\ndata: "model"\n\ndata:{"choices":[{"model":"inner"}]}\n\ndata: {"model":null}\n\n'
STREAM = CHAT + COMPLETION + RESPONSE + DELTA + MESSAGE + COMMENT + ODD + DONE


def renamed(stream: bytes) -> bytes:
    """What has to come out: each of the names that count, by hand."""
    for event, name in (
        (CHAT, b'model":"inner","ch'),
        (COMPLETION, b'"model":"inner"}\n'),
        (RESPONSE, b'],"model":"inner"'),
    ):
        stream = stream.replace(event, event.replace(name, name.replace(b"inner", b"m")))
    stream = stream.replace(MESSAGE, MESSAGE.replace(b'"id":"m","model":"inner"', b'"id":"m","model":"m"'))
    return stream.replace(b'data: {"model": "inner"\n', b'data: {"model": "m"\n')


async def test_every_kind_of_event_gets_the_public_name(lab: Lab) -> None:
    await lab.answering(SSE + chunk(STREAM) + END, served="inner")
    assert (await lab.chat()).body == renamed(STREAM)


async def test_an_alias_is_what_its_client_reads(lab: Lab) -> None:
    await lab.answering(SSE + chunk(CHAT) + END)
    assert (await lab.chat(b'{"model":"alias"}')).body == CHAT.replace(b'"inner"', b'"alias"')


@pytest.mark.parametrize(
    ("end", "served"), [(b"\n", "inner"), (b"\n", "m"), (b"\r\n", "inner"), (b"\r\n", "m"), (b"\r", "m")]
)
async def test_a_stream_may_be_split_at_any_byte(lab: Lab, served: str, end: bytes) -> None:
    """Two pieces, cut at each position in turn; every event that is whole must have come before the second, and the
    head with the first. However the engine ends its lines, the client gets LF: some split the stream at LF LF."""
    stream = (CHAT + RESPONSE + DONE).replace(b"\n", end)
    cut = 0

    async def script(wire: Wire) -> None:
        nonlocal cut
        while await wire.request():
            await wire.send(SSE + (chunk(stream[:cut]) if cut else b""))
            assert await seen.get() == expected(stream[:cut])
            await wire.send(chunk(stream[cut:]) + END)

    def expected(part: bytes) -> bytes:
        part = part.replace(b"\r\n", b"\n").replace(b"\r", b"\n")  # a CR ends a line, LF or not
        whole = part[: part.rfind(b"\n\n") + 2] if b"\n\n" in part else b""
        return renamed(whole) if served == "inner" else whole

    seen: asyncio.Queue[bytes] = asyncio.Queue()
    await lab.engine(script, served=served)
    wire = await lab.client()
    for cut in range(0, len(stream), 1 if end == b"\n" else 3):
        await wire.send(post(b'{"model":"m"}'))
        wanted = expected(stream[:cut])
        body = b""
        if wanted:
            assert (await wire.head()).status == 200
        while len(body) < len(wanted):
            body += await wire.chunk()
        seen.put_nowait(body)
        if not wanted:
            assert (await wire.head()).status == 200
        while data := await wire.chunk():
            body += data
        mended = stream.replace(end, b"\n")
        assert body == (renamed(mended) if served == "inner" else mended)


async def test_equal_names_leave_a_stream_as_it_is(lab: Lab) -> None:
    await lab.answering(SSE + chunk(STREAM[:50]) + chunk(STREAM[50:]) + END, served="m")
    assert (await lab.chat()).body == STREAM


async def test_what_follows_the_last_event_is_passed_on_at_the_end(lab: Lab) -> None:
    tail = b'data: {"model":"inner","choices":[]}'
    await lab.answering(SSE + chunk(CHAT + tail) + END, served="inner")
    assert (await lab.chat()).body == renamed(CHAT) + tail.replace(b"inner", b"m")


async def test_each_event_is_passed_on_before_the_next_is_made(lab: Lab) -> None:
    seen = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE)
        for number in range(50):
            await wire.send(chunk(b'data: {"model":"inner","n":%d}\n\n' % number))
            await seen.wait()
            seen.clear()
        await wire.send(END)

    await lab.engine(script, served="inner")
    wire = await lab.send(post(b'{"model":"m","stream":true}'))
    await wire.head()
    for number in range(50):
        assert await wire.chunk() == b'data: {"model":"m","n":%d}\n\n' % number
        seen.set()
    assert await wire.chunk() == b""


async def test_an_event_beyond_all_measure_is_passed_on_in_pieces(lab: Lab) -> None:
    event = b'data: {"x":"' + b"y" * (3 << 20) + b'"}\n\n'
    await lab.answering(SSE + chunk(event) + chunk(CHAT) + END, served="inner")
    assert (await lab.chat()).body == event + renamed(CHAT)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("body", "got"),
    [
        (b'{"model":"inner","x":1}', b'{"model":"m","x":1}'),
        (b'{"x":{"model":"inner"},"model" : "inner" }', b'{"x":{"model":"inner"},"model" : "m" }'),
        (b'{"choices":[{"message":{"content":"\\"model\\":\\"inner\\""}}],"model":"inner"}',
         b'{"choices":[{"message":{"content":"\\"model\\":\\"inner\\""}}],"model":"m"}'),
        (b'{"message":{"model":"inner"},"response":{"model":"inner"}}', b'{"message":{"model":"inner"},"response":{"model":"inner"}}'),
        (b'{"data":[{"model":"inner"}]}', b'{"data":[{"model":"inner"}]}'),
        (b'[{"model":"inner"}]', b'[{"model":"inner"}]'),
        (b'{"model":null}', b'{"model":null}'),
        (b'{"model":"inner","model":"inner"}', b'{"model":"m","model":"inner"}'),
        (b'{"model":"inn', b'{"model":"inn'),
        (b"not json", b"not json"),
        (b"", b""),
        (b'{"data":[' + b"0.123456789," * 60_000 + b'0],"model":"inner"}', b'{"data":[' + b"0.123456789," * 60_000 + b'0],"model":"m"}'),
        (b'{"x":"' + b'\\"a' * 60_000 + b'","model":"inner"}', b'{"x":"' + b'\\"a' * 60_000 + b'","model":"m"}'),
    ],
)  # fmt: skip
async def test_json_answers_get_the_public_name(lab: Lab, body: bytes, got: bytes, chunked: bool) -> None:
    whole = answer(body)
    if chunked:
        pieces = [body[at : at + 5000] for at in range(0, len(body), 5000)]
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        whole = head + b"".join(map(chunk, pieces)) + END
    await lab.answering(whole, served="inner")
    reply = await lab.chat()
    assert reply.complete
    assert reply.body == got


@pytest.mark.parametrize(
    "body", [b'{"x":[1,{"model":"a"}],"model":"inner","y":"' + b"z" * 30 + b'"}', b'{"model":"inner"}']
)
async def test_json_may_be_split_at_any_byte(lab: Lab, body: bytes) -> None:
    got = body.replace(b"inner", b"m")
    cut = 0

    async def script(wire: Wire) -> None:
        while await wire.request():
            whole = answer(body)
            await wire.send(whole[: len(whole) - cut])
            await wire.send(whole[len(whole) - cut :])

    await lab.engine(script, served="inner")
    wire = await lab.client()
    for cut in range(1, len(answer(body))):  # noqa: B007 - the engine reads it
        await wire.send(post(b'{"model":"m"}'))
        assert (await wire.response()).body == got


async def test_the_public_name_is_written_as_json(lab: Lab) -> None:
    lab.call('ü"\\')
    await lab.answering(answer(b'{"model":"m","x":1}'))
    reply = await lab.chat(json.dumps({"model": 'ü"\\'}).encode())
    assert reply.json() == {"model": 'ü"\\', "x": 1}


async def test_other_kinds_of_answers_are_left_as_they_are(lab: Lab) -> None:
    sound = b'{"model":"inner"}\x00\xff'
    await lab.answering(answer(sound, b"audio/wav"), served="inner")
    assert (await lab.chat()).body == sound


async def test_an_answer_that_is_packed_is_left_as_it_is(lab: Lab) -> None:
    packed = b'\x1f\x8b{"model":"inner"}\n\n'
    await lab.answering(answer(packed, extra=b"content-encoding: gzip\r\n"), served="inner")
    assert (await lab.chat()).body == packed


@pytest.mark.parametrize("kind", [b"Application/JSON", b"application/json;charset=utf-8", b"APPLICATION/json ; a=b"])
async def test_the_type_may_be_written_in_any_way(lab: Lab, kind: bytes) -> None:
    await lab.answering(answer(b'{"model":"inner"}', kind), served="inner")
    assert (await lab.chat()).body == b'{"model":"m"}'


async def test_error_answers_of_the_engine_are_passed_on(lab: Lab) -> None:
    body = b'{"error":{"message":"context too long","type":"BadRequestError"}}'
    await lab.answering(answer(body, status=b"400 Bad Request"), served="inner")
    reply = await lab.chat()
    assert (reply.status, reply.body) == (400, body)

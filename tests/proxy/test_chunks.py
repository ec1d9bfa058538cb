"""Answers in chunks: whole ones are passed on unparsed, and it makes no difference to what the client gets."""

import asyncio
import itertools
import random
from collections.abc import Sequence

import pytest
from lab import END, SSE, Lab, Message, Wire, answer, chunk, post, until

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LIKE = chunk(b"like") + END + answer(b"like")
"""Data that looks like all that could follow a chunk."""


async def relayed(lab: Lab, *pieces: bytes, head: bytes = HEAD, end: bool = True) -> Message:
    """What a client gets of an engine that sends these pieces, each a read of its own; `end`: and then closes."""
    engine = await lab.engine(sending([head, *pieces], end=end))
    try:
        return await lab.chat()
    finally:
        lab.model.remove(lab.targets[-1])
        engine.refuse()


def sending(pieces: Sequence[bytes], *, end: bool = True) -> object:
    async def script(wire: Wire) -> None:
        while await wire.request():
            for number, piece in enumerate(pieces):
                if number:
                    for _ in range(4):
                        await asyncio.sleep(0)
                await wire.send(piece)
            if end:
                return

    return script


@pytest.mark.parametrize(
    "size",
    [
        b"a",
        b"A",
        b"0a",
        b"00A",
        b"0000000a",
        b"00000000a",
        b"000000000000000a",
        b"a;x",
        b"a;x=y",
        b'a;x="y"',
        b"A;x;y=z",
    ],
)
@pytest.mark.parametrize("cut", [0, 1, -1])
async def test_the_size_may_be_written_in_any_way_that_http_has(lab: Lab, size: bytes, cut: int) -> None:
    odd = size + b"\r\n0123456789\r\n"
    reply = await relayed(lab, chunk(b"first"), odd[:cut], odd[cut:], chunk(b"last"), END)
    assert (reply.complete, reply.body) == (True, b"first0123456789last")


@pytest.mark.parametrize(
    "odd",
    [b"0xa\r\n0123456789\r\n", b"+a\r\n0123456789\r\n", b" a\r\n0123456789\r\n", b"a_0\r\n" + b"x" * 160 + b"\r\n",
     b"-a\r\n0123456789\r\n", b"\r\n0123456789\r\n", b"\xb2\r\n01\r\n", b"a\n0123456789\r\n", b"a\r\n0123456789\n",
     b"a\r\n0123456789ab", b"a\r\n01234567890\r\n", b"9\r\n0123456789\r\n", b"a\r\r\n0123456789\r\n",
     b"fffffffffffffffff\r\nx\r\n", b"a,a\r\n0123456789\r\n", b"ag\r\n0123456789\r\n"],
)  # fmt: skip
async def test_anything_else_ends_the_answer_visibly(lab: Lab, odd: bytes) -> None:
    reply = await relayed(lab, chunk(b"first"), odd, chunk(b"last"), END)
    assert not reply.complete
    assert reply.body.startswith(b"first")
    assert b"last" not in reply.body


async def test_a_chunk_longer_than_what_comes_is_no_whole_answer(lab: Lab) -> None:
    for size in (b"b", b"ffffffff", b"100000000"):
        reply = await relayed(lab, chunk(b"first"), size + b"\r\n0123456789", b"\r\n0\r\n\r\n")
        assert not reply.complete
        assert reply.body.startswith(b"first0123456789")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"a\r\n",
        b"\r\na",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        LIKE,
        LIKE * 3,
        b"\r\n" * 50,
        b"x" * 70_000 + b"\r\n",
        END * 9,
    ],
)
async def test_data_that_looks_like_chunks_is_data(lab: Lab, data: bytes) -> None:
    whole = chunk(data)
    for pieces in (
        [whole],
        [chunk(b"1"), whole, whole],
        [chunk(b"1") + whole, whole + whole],
        [whole[:3], whole[3:], whole],
    ):
        reply = await relayed(lab, *pieces, END)
        sent = b"".join(pieces)
        assert reply.complete
        assert reply.body == (b"1" if sent.startswith(chunk(b"1")) else b"") + data * sent.count(whole)


STREAM = chunk(b"one\r\n") + b"3;x=y\r\ntwo\r\n" + chunk(LIKE) + b"0A\r\n0123456789\r\n" + b"0\r\nx-trailer: a\r\n\r\n"
TEXT = b"one\r\ntwo" + LIKE + b"0123456789"


async def test_a_chunk_may_be_split_at_any_byte(lab: Lab) -> None:
    cut = 0

    async def script(wire: Wire) -> None:
        while await wire.request():
            await wire.send(HEAD + chunk(b"first"))
            for piece in (STREAM[:cut], STREAM[cut:]):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                await wire.send(piece)

    await lab.engine(script)
    wire = await lab.client()
    for cut in range(1, len(STREAM)):
        await wire.send(post(BODY))
        reply = await wire.response()
        assert (reply.complete, reply.body, reply[b"x-trailer"]) == (True, b"first" + TEXT, None), cut
    assert len(lab.engines[0].wires) == 1


@pytest.mark.parametrize("head", [HEAD, HEAD + b"3\r\n", HEAD[:-1], HEAD + chunk(b"x")[:-1]])
@pytest.mark.parametrize("end", [END, b"0\r\nx: y\r\n\r\n", b"000\r\n\r\n", b"0;x\r\n\r\n"])
async def test_the_end_may_come_with_anything(lab: Lab, head: bytes, end: bytes) -> None:
    begun = head[len(HEAD) :]
    rest = HEAD[len(head) :] + {b"3\r\n": b"abc\r\n", b"1\r\nx\r": b"\n"}.get(begun, b"")
    text = {b"3\r\n": b"abc", b"1\r\nx\r": b"x"}.get(begun, b"")
    for pieces in ([rest + chunk(b"a") + end], [rest, chunk(b"a") + end], [rest, chunk(b"a"), end], [rest + end]):
        reply = await relayed(lab, *filter(None, pieces), head=head, end=False)
        assert (reply.complete, reply.body) == (True, text + b"a" * (b"1\r\na\r\n" in b"".join(pieces)))


async def test_what_follows_the_last_chunk_is_nobodys(lab: Lab) -> None:
    count = 0

    async def script(wire: Wire) -> None:
        nonlocal count
        while await wire.request():
            count += 1
            for piece in (HEAD, chunk(b"%d" % count), END + chunk(b"evil") + answer(b"evil")):
                await wire.send(piece)
                await asyncio.sleep(0)

    engine = await lab.engine(script)
    wire = await lab.client()
    for number in range(1, 6):
        await wire.send(post(BODY))
        assert (await wire.response()).body == b"%d" % number
    assert len(engine.wires) == 5


async def test_a_chunk_on_an_idle_connection_is_nobodys(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        if await wire.request() is None:
            return
        await wire.send(HEAD + chunk(b"mine") + END)
        await until(lambda: lab._pools()[0].idle)
        await wire.send(chunk(b"evil"))
        await wire.gone()

    await lab.engine(script)
    wire = await lab.client()
    for _ in range(2):
        await wire.send(post(BODY))
        assert (await wire.response()).body == b"mine"
        await until(lambda: not lab._pools()[0].idle)


async def test_chunks_of_one_answer_do_not_count_for_the_next(lab: Lab) -> None:
    """A kept connection whose next answer begins with what would be a chunk, or is none in chunks."""
    answers = itertools.cycle([HEAD + chunk(b"a") + END, answer(b"4\r\nevil\r\n", b"text/plain"), HEAD + END])

    async def script(wire: Wire) -> None:
        while await wire.request():
            await wire.send(next(answers))

    engine = await lab.engine(script)
    wire = await lab.client()
    for body in [b"a", b"4\r\nevil\r\n", b""] * 3:
        await wire.send(post(BODY))
        assert (await wire.response()).body == body
    assert len(engine.wires) == 1


@pytest.mark.parametrize("first", [chunk(b"evil"), b"4\r\n", END])
async def test_a_chunk_in_place_of_an_answer_is_no_answer(lab: Lab, first: bytes) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(HEAD + chunk(b"good") + END)
        if await wire.request():
            await wire.send(first)

    await lab.engine(script)
    assert (await lab.chat()).body == b"good"
    assert (await lab.chat()).code == "engine_failed"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", [b"application/octet-stream", b"text/event-stream", b"application/json"])
async def test_cuts_anywhere_give_the_same_bytes(lab: Lab, seed: int, kind: bytes) -> None:
    rng = random.Random(seed)  # noqa: S311
    parts = [
        rng.choice((b"x", LIKE, b"\r\n", b'data: {"n":%d}\n\n' % n, b"y" * rng.randrange(1, 3_000))) for n in range(40)
    ]
    coded = [b"%b%b\r\n%b\r\n" % (b"%x" % len(p), rng.choice((b"", b"", b";e=f")), p) for p in parts]
    head = SSE.replace(b"text/event-stream; charset=utf-8", kind)
    for _ in range(4):
        pieces = [head]
        for data in (*coded, END):
            how = rng.random()
            if how < 0.3:
                pieces[-1] += data
            elif how < 0.6:
                at = rng.randrange(len(data))
                pieces[-1] += data[:at]
                pieces.append(data[at:])
            else:
                pieces.append(data)
        engine = await lab.engine(sending(pieces, end=False))
        reply = await lab.chat()
        lab.model.remove(lab.targets[-1])
        engine.refuse()
        assert reply.complete
        whole = b"".join(parts)
        assert reply.body == (whole.replace(b"\r\n", b"\n") if kind == b"text/event-stream" else whole)


async def test_what_looks_like_a_chunk_within_one_is_data(lab: Lab) -> None:
    """Each piece but the first would be a whole chunk, were it not for what came before it."""
    inner = chunk(b"hello")
    for pieces in (
        [b"a\r\n", inner, b"\r\n"],
        [b"a;x=y\r\n", inner, b"\r\n"],
        [b"14\r\n", inner, inner, b"\r\n"],
        [b"14\r\n" + inner, inner, b"\r\n"],
        [b"1", b"5\r\nhello\r\n", inner + b"1234\r\n"],
        [b"1", b"5\r\nhello\r\n", inner + b"1234", b"\r\n"],
        [b"0", b"5\r\nhello\r\n", b"05\r\nhello\r\n"],
        [b"a;x=", inner[:3], b"5\r\nhello\r\n", b"\r\n"],
    ):
        apart = await relayed(lab, chunk(b"first"), *pieces, chunk(b"last"), END)
        lab.limits.stall_timeout = 0.5
        whole = await relayed(lab, chunk(b"first") + b"".join(pieces) + chunk(b"last") + END)
        assert apart.complete
        assert apart.body == whole.body
        assert b"hello" in whole.body

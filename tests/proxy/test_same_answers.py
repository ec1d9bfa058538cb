"""An engine whose answers have the same head again and again: no shortcut is to be seen by any client."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import asyncio
import gzip
import random
from collections.abc import Sequence

import pytest
from lab import END, SSE, Lab, Message, Wire, answer, chunk, post, until

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
JSON = b'{"model":"inner","x":"y"}'
PACKED = gzip.compress(b'{"model":"inner"}', mtime=0)
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"


async def ask(wire: Wire) -> Message:
    await wire.send(post(BODY))
    return await wire.response()


FRAMING = (b"content-length", b"transfer-encoding")


def heard(reply: Message) -> tuple[bytes, list[tuple[bytes, bytes]], bytes, bool]:
    """But for the framing, which may depend on whether an answer comes in one piece."""
    headers = [header for header in reply.passed_on if header[0] not in FRAMING]
    return reply.start, headers, reply.body, reply.complete


async def scripted(lab: Lab, *answers: Sequence[bytes], served: str = "m") -> list[int]:
    """An engine whose n-th answer, over all connections, comes in these pieces, the n-th of many; it keeps its
    connections, as long as it is let. What is returned counts the answers."""
    count = [0]

    async def script(wire: Wire) -> None:
        while await wire.request():
            pieces = answers[min(count[0], len(answers) - 1)]
            count[0] += 1
            for number, piece in enumerate(pieces):
                if number:
                    for _ in range(5):  # so that it is a read of its own
                        await asyncio.sleep(0)
                await wire.send(piece)

    await lab.engine(script, served=served)
    return count


async def test_the_head_is_remembered_after_one_answer(lab: Lab) -> None:
    await scripted(lab, [answer(JSON)])
    wire = await lab.client()
    await ask(wire)
    assert lab._pools()[0].again is not None


KINDS = {
    "short": answer(b"a"),
    "empty": answer(b""),
    "long": answer(b"b" * 90_000),
    "other kind": answer(b"cc", b"text/plain"),
    "other header": answer(b"dd", extra=b"x-a: b\r\n"),
    "other status": answer(b'{"error":1}', status=b"404 Not Found"),
    "renamed": answer(JSON),
    "packed": answer(PACKED, extra=b"content-encoding: gzip\r\n"),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "no content, and its length": b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
    "last": answer(b"last", extra=b"connection: close\r\n"),
    "old": answer(b"old").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "chunks": CHUNKED + chunk(b"1234") + END,
    "stream": SSE + chunk(b'data: {"model":"inner"}\n\n') + END,
    "stream with a length": answer(b'data: {"model":"inner"}\n\n', b"text/event-stream"),
    "early": b"HTTP/1.1 103 Early Hints\r\ncontent-length: 61\r\n\r\n" + answer(b"e"),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("served", ["m", "inner"])
async def test_answers_of_all_kinds_in_any_order_are_told_apart(lab: Lab, seed: int, served: str) -> None:
    """The same as each of them is the first time, however it is cut."""
    rng = random.Random(seed)  # noqa: S311
    names = list(KINDS)
    order = [name for name in (rng.choice(names) for _ in range(20)) for _ in range(rng.randrange(1, 4))]
    pieces = []
    for name in order:
        whole = KINDS[name]
        at = rng.randrange(len(whole)) if rng.random() < 0.4 else 0
        pieces.append([piece for piece in (whole[:at], whole[at:]) if piece])
    first = {}
    for name in names:
        engine = await lab.answering(KINDS[name], served=served)
        first[name] = heard(await lab.chat())
        lab.model.remove(lab.targets[-1])
        engine.refuse()
    await scripted(lab, *pieces, served=served)
    wire = await lab.client()
    for name in order:
        assert heard(await ask(wire)) == first[name], name


LENGTHS = [b"0", b"1", b"4", b"04", b"0000000000000004", b"4 ", b" 4", b"+4", b"-4", b"0x4", b"4,4", b"", b"5", b"99999999999",
           b"99999999999999999999999", b"4\r\ncontent-length: 4", b"4\r\ncontent-length: 3", b"4\r\ntransfer-encoding: chunked"]  # fmt: skip


@pytest.mark.parametrize("length", LENGTHS)
async def test_any_writing_of_the_length_is_taken_as_it_is_the_first_time(lab: Lab, length: bytes) -> None:
    odd = answer(b"mine").replace(b"content-length: 4", b"content-length: " + length)

    async def closing(wire: Wire) -> None:
        await wire.request()
        await wire.send(odd)

    async def warm(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(b"warm"))
        await closing(wire)

    await lab.engine(closing)
    first = heard(await lab.chat())
    lab.model.remove(lab.targets[0])
    await lab.engine(warm)
    assert (await lab.chat()).body == b"warm"
    assert heard(await lab.chat()) == first


@pytest.mark.parametrize(
    "extra", [b"x", b"\r\n", b"\x00", answer(b"of another"), answer(b"of another") * 2, b"0\r\n\r\n"]
)
async def test_bytes_behind_an_answer_reach_nobody(lab: Lab, extra: bytes) -> None:
    await scripted(lab, [answer(b"mine")], [answer(b"mine")], [answer(b"mine") + extra])
    wire = await lab.client()
    for _ in range(8):
        reply = await ask(wire)
        assert (reply.status, reply.body) == (200, b"mine")


async def test_what_looks_like_the_same_answer_within_another_one_is_not(lab: Lab) -> None:
    same = answer(b"mine", b"text/plain")
    usual = [same]
    await scripted(lab, usual, usual, [b"HTTP/1.1 404 Not Found\r\nx-a: ", same], usual, [answer(same)], usual)
    wire = await lab.client()
    replies = [await ask(wire) for _ in range(6)]
    assert [reply.status for reply in replies] == [200, 200, 404, 200, 200, 200]
    assert [reply[b"x-a"] for reply in replies] == [None, None, b"HTTP/1.1 200 OK", None, None, None]
    assert [reply.body for reply in replies] == [b"mine"] * 4 + [same, b"mine"]


async def test_each_answer_that_is_a_connections_last_ends_it(lab: Lab) -> None:
    engine = await lab.answering(KINDS["last"])
    wire = await lab.client()
    for count in range(1, 6):
        assert (await ask(wire)).body == b"last"
        assert len(engine.wires) == count


async def test_what_comes_when_nobody_has_asked_is_no_answer_to_the_next(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        for _ in range(2):
            if await wire.request() is None:
                return
            await wire.send(answer(b"mine"))
        await until(lambda: lab._pools()[0].idle)
        await wire.send(answer(b"of another"))
        await wire.gone()

    await lab.engine(script)
    wire = await lab.client()
    for _ in range(2):
        assert (await ask(wire)).body == b"mine"
    await until(lambda: not lab._pools()[0].idle)
    assert (await ask(wire)).body == b"mine"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_that_has_no_body_is_never_given_one(lab: Lab, status: bytes) -> None:
    """Else what claims to be its body would be read by the client as the answer to its next request."""
    evil = answer(b"evil", extra=b"x-evil: yes\r\n")
    await scripted(lab, [answer(b"", status=status)], [answer(evil, status=status)], [answer(b"mine")])
    wire = await lab.client()
    assert (await ask(wire)).status == int(status[:3])
    assert (await ask(wire)).status == int(status[:3])
    reply = await ask(wire)
    assert (reply.body, reply[b"x-evil"]) == (b"mine", None)


async def test_an_early_hint_is_not_taken_for_the_answer_the_next_time(lab: Lab) -> None:
    """Even if it names a length, by chance that of the answer behind it with its head."""
    behind = answer(b"mine", b"text/plain")
    hint = b"HTTP/1.1 103 Early Hints\r\ncontent-length: %d\r\n\r\n" % len(behind)
    await scripted(lab, [hint + behind])
    wire = await lab.client()
    for _ in range(4):
        reply = await ask(wire)
        assert (reply.status, reply.body) == (200, b"mine")


@pytest.mark.parametrize("kind", ["renamed", "chunks", "stream", "stream with a length"])
@pytest.mark.parametrize("served", ["m", "inner"])
@pytest.mark.parametrize("reset", [False, True])
async def test_an_engine_may_close_a_kept_connection_at_any_byte(lab: Lab, kind: str, served: str, reset: bool) -> None:
    """Its head is remembered; nothing but a silence is asked for again, and no answer looks whole that is not."""
    whole, events = KINDS[kind], kind.startswith("stream")
    cut = 0
    good: list[bytes] = []

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(whole)
        if await wire.request():
            await wire.send(whole[:cut])
            if reset:
                wire.reset()

    await lab.engine(script, served=served)
    for cut in range(1, len(whole)):
        good.append((await lab.chat()).body)
        reply = await lab.chat()
        if reply.status == 502:
            assert reply.code == "engine_failed"
        elif events:
            assert reply.complete
            assert b"engine_failed" in reply.body
        else:
            assert (reply.status, reply.complete) == (200, False), cut
        assert len(lab.engines[0].wires) == cut
    assert len(set(good)) == 1


@pytest.mark.parametrize("served", ["m", "inner"])
async def test_a_whole_answer_and_then_silence_keeps_nobody_waiting(lab: Lab, served: str) -> None:
    lab.limits.response_timeout = lab.limits.stall_timeout = 60.0
    await scripted(lab, [answer(JSON)], served=served)
    wire = await lab.client()
    for _ in range(5):
        assert (await ask(wire)).json()["x"] == "y"


async def test_many_clients_of_one_engine_never_get_each_others(lab: Lab) -> None:
    """One engine, one remembered head, answers that come in any order."""
    rng = random.Random(1)  # noqa: S311
    lab.limits.queue_size = 100

    async def script(wire: Wire) -> None:
        while request := await wire.request():
            for _ in range(rng.randrange(6)):
                await asyncio.sleep(0)
            whole = answer(request.body + b" " * rng.randrange(2000))
            at = rng.choice((0, rng.randrange(len(whole))))
            if at:
                await wire.send(whole[:at])
                await asyncio.sleep(0)
            await wire.send(whole[at:])

    await lab.engine(script, served="inner")

    async def client(number: int) -> None:
        wire = await lab.client()
        for turn in range(20):
            await wire.send(post(b'{"n":"%d.%d","model":"m"}' % (number, turn)))
            assert (await wire.response()).json() == {"n": f"{number}.{turn}", "model": "m"}

    await asyncio.gather(*map(client, range(12)))

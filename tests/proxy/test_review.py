"""Faults that were found by reading."""

import asyncio
import gc
import weakref

import pytest
from lab import OK, SSE, Lab, Wire, answer, post, until

from router.catalog import Address, Balance, Target
from router.proxy.rename import rename_whole

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("served", ["m", "inner"])
async def test_usage_at_the_front_of_an_answer_in_pieces_is_counted(lab: Lab, served: str) -> None:
    whole = answer(
        b'{"model":"%b","usage":{"prompt_tokens":7,"completion_tokens":3},"data":"%b"}'
        % (served.encode(), b"x" * 9_000)
    )

    async def script(wire: Wire) -> None:
        await wire.request()
        for at in range(0, len(whole), 3_000):
            await wire.send(whole[at : at + 3_000])
            await asyncio.sleep(0.02)

    await lab.engine(script, served=served)
    assert (await lab.chat()).status == 200
    assert (lab.records[0].prompt_tokens, lab.records[0].completion_tokens) == (7, 3)


def test_an_answer_nested_too_deeply_is_passed_on_as_it_is() -> None:
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"model":"x"}'
    assert rename_whole(deep, "m") == deep


@pytest.mark.parametrize("path", [b"/health", b"/v1/models"])
async def test_a_large_body_for_a_path_that_takes_none_is_refused_at_once(lab: Lab, path: bytes) -> None:
    reply = await lab.ask(post(b"x" * 70_000, path))
    assert (reply.status, reply.code) == (413, "body_too_large")


async def test_what_waits_behind_a_request_is_bounded_in_bytes(lab: Lab) -> None:
    """Sixteen bodies of the largest size would be sixteen times `max_body`."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(wire: Wire) -> None:
        while await wire.request():
            asked.set()
            await go_on.wait()
            await wire.send(OK)

    await lab.engine(slow)
    lab.limits.max_body = 300_000
    wire = await lab.send(post(b'{"model":"m"}'))
    await asked.wait()
    big = post(b'{"model":"m","x":"' + b"x" * 290_000 + b'"}')
    wire._writer.write(big * 8)
    await until(lambda: any(client._reading_paused for client in lab.server._connections()))
    (client,) = lab.server._connections()
    assert sum(turn.size for turn in client._queue) < 4 * lab.limits.max_body
    go_on.set()
    for _ in range(9):
        assert (await wire.response()).status == 200


async def test_a_connection_that_is_gone_leaves_no_cycle(lab: Lab) -> None:
    """Python looks for cycles seldom here."""
    await lab.answering(OK)
    wire = await lab.send(post(b'{"model":"m"}'))
    assert (await wire.response()).status == 200
    gc.collect()
    gc.disable()
    try:
        (client,) = lab.server._connections()
        gone = weakref.ref(client)
        del client
        wire.close()
        await until(lambda: gone() is None, 2)
    finally:
        gc.enable()


def test_a_claim_among_many_in_flight_is_as_quick() -> None:
    balance = Balance()
    target = Target("m#0", Address("127.0.0.1", 1), served="m")
    balance.add(target)
    for _ in range(50_000):
        assert balance.claim(()) is target
    for _ in range(50_000):
        balance.release(target)
    assert target.in_flight == 0


async def test_an_answer_with_another_coding_ends_with_its_connection(lab: Lab) -> None:
    head = SSE.replace(b"chunked", b"gzip")

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(head + b"data: 1\n\ndata: [DONE]\n\n")

    await lab.engine(script)
    reply = await lab.chat()
    assert (reply.status, reply.body) == (200, b"data: 1\n\ndata: [DONE]\n\n")


async def test_a_stream_that_only_the_connections_end_ends_is_whole_with_its_last_event(lab: Lab) -> None:
    """As mlx_lm's, by HTTP/1.0; else nobody could tell one that broke off."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")

    await lab.engine(script)
    reply = await lab.chat()
    assert reply.body.startswith(b'data: 1\n\ndata: {"error":{')
    assert lab.records[0].error == "engine_failed"

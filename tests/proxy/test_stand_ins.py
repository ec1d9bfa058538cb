"""Models that stand in for others: fallbacks, groups with weights, and how often a request may be sent again."""

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest
from lab import END, SSE, Lab, Wire, answer, chunk, post, until

from router.catalog import Group, Manner, Model
from router.config.specs import Edits
from router.proxy.paths import PATHS

pytestmark = pytest.mark.anyio


def said(text: str) -> bytes:
    return answer(msgspec.json.encode({"model": "m", "said": text}))


async def dead(wire: Wire) -> None:
    await wire.request()
    wire.reset()


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.rest()


def stand_in(lab: Lab, *names: str) -> None:
    """These models stand in for `m`."""
    for name in names:
        lab.declare(name)
    lab.model.manner = Manner(fallback=names)
    lab.catalog.replace(list(lab.catalog))


async def both(lab: Lab, *first: Any) -> Model:
    """`m` with an engine of this script, and `b`, which answers, in its place."""
    stand_in(lab, "b")
    if first:
        await lab.engine(*first)
    other = lab.catalog.resolve("b")
    await lab.answering(said("b"), of=other)
    return other


TOO_LONG = {
    "vLLM": b'{"error":{"message":"This model\'s maximum context length is 2048 tokens. However, you asked for 9000"'
    b',"type":"BadRequestError","code":400}}',
    "llama.cpp": b'{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it",'
    b'"type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":2048}}',
    "OpenAI": b'{"error":{"message":"...","type":"invalid_request_error","code":"context_length_exceeded"}}',
}


async def test_an_engine_that_dies_is_stood_in_for(lab: Lab) -> None:
    await both(lab, dead)
    reply = await lab.chat()
    assert reply.json() == {"model": "m", "said": "b"}  # the name that was asked for
    assert reply[b"x-router-model"] == b"b"
    assert reply[b"x-router-retries"] == b"1"
    (record,) = lab.records
    assert (record.model, record.asked, record.status, record.retries) == ("b", "m", 200, 1)


@pytest.mark.parametrize("status", [b"500 No", b"502 No", b"503 No", b"504 No"])
async def test_an_engine_that_says_it_failed_is_stood_in_for(lab: Lab, status: bytes) -> None:
    await both(lab)
    await lab.answering(answer(b"{}", status=status))
    assert (await lab.chat()).json()["said"] == "b"


async def test_without_an_engine_nobody_waits_where_another_model_is_ready(lab: Lab) -> None:
    await both(lab)
    assert (await lab.chat()).json()["said"] == "b"
    assert lab.records[0].retries == 0


async def test_a_full_queue_is_stood_in_for(lab: Lab) -> None:
    lab.limits.queue_size = 0
    stand_in(lab, "b")
    await lab.engine(silent, limit=1)
    await lab.answering(said("b"), of=lab.catalog.resolve("b"))
    first = await lab.send(post(b'{"model":"m"}'))
    await until(lambda: lab.targets[0].in_flight)
    assert (await lab.chat()).json()["said"] == "b"
    first.reset()


async def test_who_has_waited_in_vain_is_stood_in_for(lab: Lab) -> None:
    lab.limits.queue_timeout = 0.05
    stand_in(lab, "b")
    await lab.engine(silent, limit=1)
    await lab.answering(said("b"), of=lab.catalog.resolve("b"))
    first = await lab.send(post(b'{"model":"m"}'))
    await until(lambda: lab.targets[0].in_flight)
    assert (await lab.chat()).json()["said"] == "b"
    first.reset()


@pytest.mark.parametrize("refusal", TOO_LONG)
@pytest.mark.parametrize("whole", [True, False])
async def test_a_context_too_long_for_one_is_asked_of_the_next(lab: Lab, refusal: str, whole: bool) -> None:
    await both(lab)
    data = answer(TOO_LONG[refusal], status=b"400 Bad Request")

    async def script(wire: Wire) -> None:
        await wire.request()
        for part in (data,) if whole else (data[:80], data[80:150], data[150:]):
            await wire.send(part)

    await lab.engine(script)
    assert (await lab.chat()).json()["said"] == "b"


@pytest.mark.parametrize("body", [b'{"error":{"message":"`max_tokens` must be positive"}}', b"<html>", b""])
async def test_another_refusal_is_the_clients_to_mend(lab: Lab, body: bytes) -> None:
    await both(lab)
    await lab.answering(answer(body, status=b"400 Bad Request"))
    reply = await lab.chat()
    assert (reply.status, reply.body) == (400, body)


async def test_a_refusal_for_length_is_told_where_nobody_stands_in(lab: Lab) -> None:
    await lab.answering(answer(TOO_LONG["vLLM"], status=b"400 Bad Request"))
    assert (await lab.chat()).body == TOO_LONG["vLLM"]


async def test_each_is_asked_once_and_the_last_failure_is_told(lab: Lab) -> None:
    stand_in(lab, "b", "c")
    engines = [await lab.engine(dead, of=lab.catalog.resolve(name)) for name in "mbc"]
    reply = await lab.chat()
    assert (reply.status, reply.code) == (502, "engine_failed")
    assert "model 'c'" in reply.json()["detail"]
    assert reply[b"x-router-retries"] == b"3"
    assert [len(engine.wires) for engine in engines] == [1, 1, 1]


async def test_all_replicas_come_before_another_model(lab: Lab) -> None:
    await both(lab, dead)
    await lab.answering(said("m"))
    assert [(await lab.chat()).json()["said"] for _ in range(4)] == ["m"] * 4


async def test_after_the_first_byte_nobody_stands_in(lab: Lab) -> None:
    async def torn(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE + chunk(b'data: {"model":"m"}\n\n'))
        wire.reset()

    other = await both(lab, torn)
    reply = await lab.chat(b'{"model":"m","stream":true}')
    assert b'"engine_failed"' in reply.body
    assert other.targets[0].in_flight == 0
    assert lab.records[0].retries == 1


async def test_a_slow_engine_is_not_stood_in_for(lab: Lab) -> None:
    lab.limits.response_timeout = 0.1
    await both(lab, silent)
    assert (await lab.chat()).code == "engine_timeout"


async def test_a_model_that_lacks_the_path_is_passed_over(lab: Lab) -> None:
    stand_in(lab, "b", "c")
    lab.catalog.resolve("b").paths = frozenset({"/v1/embeddings"})
    await lab.engine(dead)
    for name in "bc":
        await lab.answering(said(name), of=lab.catalog.resolve(name))
    assert (await lab.chat()).json()["said"] == "c"


async def test_who_stands_in_is_asked_by_its_own_rules(lab: Lab) -> None:
    """Its name, its edits; the client's own bytes else."""
    stand_in(lab, "b")
    other = lab.catalog.resolve("b")
    other.manner = Manner(edits={"b": Edits(set={"top_k": 3})})
    lab.catalog.replace(list(lab.catalog))
    await lab.engine(dead)
    engine = await lab.answering(said("b"), of=other, served="inner")
    await lab.chat(b'{"model":"m","x":1}')
    assert msgspec.json.decode(engine.requests[0].body) == {"model": "inner", "x": 1, "top_k": 3}


@pytest.mark.parametrize("same", [True, False])
async def test_without_a_budget_nothing_is_sent_again(lab: Lab, same: bool) -> None:
    """Neither to another model nor to another replica."""
    lab.limits.retry_budget = 0.0
    other = await both(lab, dead)
    if same:
        lab.model.manner = Manner()
        lab.catalog.replace(list(lab.catalog))
        await lab.answering(said("m"))
    else:
        assert other.ready
    assert (await lab.chat()).code == "engine_failed"


async def test_a_group_shares_its_requests_by_weight(lab: Lab) -> None:
    one, two = lab.declare("one"), lab.declare("two")
    lab.catalog.replace(list(lab.catalog), [Group("all", kind="chat", members=[("one", 3), ("two", 1)])])
    for model in (one, two):
        await lab.answering(said(model.name), of=model)
    wire = await lab.client()
    seen = []
    for _ in range(40):
        await wire.send(post(b'{"model":"all"}'))
        reply = (await wire.response()).json()
        assert reply["model"] == "all"
        seen.append(reply["said"])
    assert Counter(seen) == {"one": 30, "two": 10}
    assert all(Counter(seen[at : at + 4]) == {"one": 3, "two": 1} for at in range(0, 40, 4))


async def test_the_members_of_a_group_stand_in_for_each_other(lab: Lab) -> None:
    one, two = lab.declare("one"), lab.declare("two")
    group = Group("all", kind="chat", members=[("one", 1), ("two", 1)], aliases=["any"])
    lab.catalog.replace(list(lab.catalog), [group])
    await lab.engine(dead, of=one)
    await lab.answering(said("two"), of=two)
    for name in (b"all", b"any") * 3:
        assert (await lab.chat(b'{"model":"%b"}' % name)).json()["said"] == "two"
    two.remove(lab.targets[-1])
    assert (await lab.chat(b'{"model":"all"}')).status in (502, 503)


async def test_a_group_may_be_edited_and_have_a_fallback(lab: Lab) -> None:
    one, two = lab.declare("one", manner=Manner(edits={"one": Edits(set={"a": 1, "b": 1})})), lab.declare("two")
    manner = Manner(edits={"all": Edits(set={"b": 2})}, fallback=("two",))
    lab.catalog.replace(list(lab.catalog), [Group("all", kind="chat", members=[("one", 1)], manner=manner)])
    engine = await lab.answering(said("one"), of=one)
    await lab.answering(said("two"), of=two)
    assert (await lab.chat(b'{"model":"all"}')).json()["said"] == "one"
    assert msgspec.json.decode(engine.requests[0].body) == {"model": "m", "a": 1, "b": 2}
    one.remove(lab.targets[0])
    assert (await lab.chat(b'{"model":"all"}')).json()["said"] == "two"


async def test_a_fallback_may_be_a_group(lab: Lab) -> None:
    one = lab.declare("one")
    lab.model.manner = Manner(fallback=("all",))
    lab.catalog.replace(list(lab.catalog), [Group("all", kind="chat", members=[("m", 1), ("one", 1)])])
    await lab.answering(said("one"), of=one)
    assert (await lab.chat()).json()["said"] == "one"


@pytest.mark.parametrize("path", [path for path in PATHS.values() if path.events], ids=lambda path: path.public)
async def test_a_client_that_waits_gets_signs_of_life(lab: Lab, path: Any) -> None:
    """While its model has no replica, and then the engine's own answer, from an engine that came later."""
    lab.limits.keepalive = 0.02
    wire = await lab.send(post(b'{"model":"m","stream":true}', path.public.encode()))
    head = await wire.head()
    assert (head.status, head[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
    sign = b'event: ping\ndata: {"type": "ping"}\n\n' if path.named else b": ping\n\n"
    assert [await wire.chunk() for _ in range(3)] == [sign] * 3

    async def script(engine: Wire) -> None:
        await engine.request()
        await engine.send(SSE + chunk(b'data: {"model":"m"}\n\n') + END)

    lab.limits.keepalive = 5.0
    await lab.engine(script)
    rest = b""
    while data := await wire.chunk():
        rest += data
    assert rest.replace(sign, b"") == b'data: {"model":"m"}\n\n'
    assert lab.records[0].status == 200


async def test_an_error_after_a_sign_of_life_is_an_event(lab: Lab) -> None:
    lab.limits.keepalive, lab.limits.queue_timeout = 0.02, 0.1
    reply = await lab.chat(b'{"model":"m","stream":true}')
    last = reply.body.rpartition(b": ping\n\n")[2]
    assert last.startswith(b"data: ")
    assert last.endswith(b"\n\n")
    assert msgspec.json.decode(last[6:])["error"]["code"] == "model_not_ready"
    assert reply.complete
    assert lab.records[0].error == "model_not_ready"


@pytest.mark.parametrize("whole", [True, False])
async def test_an_engines_refusal_after_a_sign_of_life_is_an_event(lab: Lab, whole: bool) -> None:
    lab.limits.keepalive = 0.02
    refusal = answer(b'{"error":\n {"message": "no"}}', status=b"400 Bad Request")
    wire = await lab.send(post(b'{"model":"m","stream":true}'))
    await wire.head()
    await wire.chunk()

    async def script(engine: Wire) -> None:
        await engine.request()
        await engine.send(refusal[:-5])
        if not whole:
            await asyncio.sleep(0)
        await engine.send(refusal[-5:])

    await lab.engine(script)
    rest = b""
    while data := await wire.chunk():
        rest += data
    event = rest.replace(b": ping\n\n", b"")
    assert event.count(b"\n") == 2
    assert msgspec.json.decode(event[6:])["error"]["message"] == "no"


@pytest.mark.parametrize("body", [b'{"model":"m"}', b'{"model":"m","stream":false}', b'{"model":"m","stream":"yes"}'])
async def test_who_wants_no_stream_gets_no_sign_of_life(lab: Lab, body: bytes) -> None:
    lab.limits.keepalive, lab.limits.queue_timeout = 0.01, 0.1
    assert (await lab.chat(body)).status == 503


async def test_a_retry_after_a_sign_of_life_is_still_one_answer(lab: Lab) -> None:
    lab.limits.keepalive = 0.02

    async def slowly_dead(wire: Wire) -> None:
        await wire.request()
        await released.wait()
        wire.reset()

    async def good(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE + chunk(b"data: 1\n\n") + END)

    released = asyncio.Event()
    await lab.engine(slowly_dead)
    wire = await lab.send(post(b'{"model":"m","stream":true}'))
    await wire.head()
    await wire.chunk()
    await lab.engine(good)
    released.set()
    rest = b""
    while data := await wire.chunk():
        rest += data
    assert rest.replace(b": ping\n\n", b"") == b"data: 1\n\n"

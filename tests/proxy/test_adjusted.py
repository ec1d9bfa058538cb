"""Requests that are changed on their way, because the file says so or the engine needs it, and the answers to them."""

import asyncio

import msgspec
import pytest
from lab import END, OK, SSE, Lab, Script, Wire, answer, chunk, post

from launchers.base import Dialect
from router.catalog import Manner
from router.config.specs import Edits, Wants

pytestmark = pytest.mark.anyio
STREAM = b'{"model":"m","stream":true}'
USAGE = b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
EVENT = b'data: {"model":"m","choices":[{"delta":{"content":"x"},"finish_reason":null}]}\n\n'
ABORT = b'data: {"model":"m","choices":[{"delta":{},"finish_reason":"abort"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def manner(lab: Lab, **values: object) -> None:
    lab.model.manner = Manner(**values)  # type: ignore[arg-type]
    lab.catalog.replace(list(lab.catalog))


def in_two(data: bytes, cut: int) -> Script:
    """The answer's bytes, the second piece when the router has the first."""

    async def script(wire: Wire) -> None:
        while await wire.request():
            for piece in (data[:cut], data[cut:]):
                await wire.send(piece)
                await asyncio.sleep(0.01)

    return script


async def test_the_files_edits_are_made(lab: Lab) -> None:
    lab.call("thinks")
    edits = Edits(drop=("x",), set={"chat_template_kwargs": {"enable_thinking": False}}, default={"top_k": 5})
    manner(lab, edits={"thinks": edits})
    engine = await lab.answering(OK)
    await lab.chat(b'{"model":"thinks","x":1,"y":2,"chat_template_kwargs":{"a":1}}')
    await lab.chat(b'{"model":"m","x":1}')
    assert msgspec.json.decode(engine.requests[0].body) == {
        "model": "m", "y": 2, "top_k": 5, "chat_template_kwargs": {"a": 1, "enable_thinking": False},
    }  # fmt: skip
    assert engine.requests[1].body == b'{"model":"m","x":1}'


async def test_null_is_nothing_said_where_the_file_has_a_default(lab: Lab) -> None:
    manner(lab, edits={"m": Edits(default={"max_tokens": 5, "o": {"a": 1}})})
    engine = await lab.answering(OK)
    await lab.chat(b'{"model":"m","max_tokens":null,"o":{"a":null,"b":null}}')
    got = msgspec.json.decode(engine.requests[0].body)
    assert got == {"model": "m", "max_tokens": 5, "o": {"a": 1, "b": None}}


async def test_an_edit_may_ask_for_usage(lab: Lab) -> None:
    """Then the client gets it."""
    manner(lab, edits={"m": Edits(set={"stream_options": {"include_usage": True}})})
    await lab.answering(SSE + chunk(EVENT + USAGE + DONE) + END, dialect=Dialect(counts=True))
    assert (await lab.chat(STREAM)).body == EVENT + USAGE + DONE


async def test_a_lora_adapter_is_asked_by_the_engines_name(lab: Lab) -> None:
    lab.call("sql")
    engine = await lab.answering(answer(b'{"model":"base:sql"}'), served="base", names={"sql": "base:sql"})
    assert (await lab.chat(b'{"model":"sql"}')).json() == {"model": "sql"}
    assert engine.requests[0].body == b'{"model":"base:sql"}'
    await lab.chat()
    assert engine.requests[1].body == b'{"model":"base"}'


@pytest.mark.parametrize("split", [True, False])
async def test_usage_is_counted_and_not_shown(lab: Lab, split: bool) -> None:
    sent = chunk(EVENT) + chunk(USAGE) + chunk(DONE) if split else chunk(EVENT + USAGE + DONE)
    engine = await lab.answering(SSE + sent + END, dialect=Dialect(counts=True))
    assert (await lab.chat(STREAM)).body == EVENT + DONE
    assert msgspec.json.decode(engine.requests[0].body)["stream_options"] == {"include_usage": True}
    record = lab.records[0]
    assert (record.prompt_tokens, record.completion_tokens) == (3, 2)


@pytest.mark.parametrize("asked", [b'{"include_usage":true}', b'{ "include_usage" : true,"x":1}'])
async def test_usage_that_was_asked_for_is_shown(lab: Lab, asked: bytes) -> None:
    engine = await lab.answering(SSE + chunk(EVENT + USAGE + DONE) + END, dialect=Dialect(counts=True))
    body = b'{"model":"m","stream":true,"stream_options":%b}' % asked
    assert (await lab.chat(body)).body == EVENT + USAGE + DONE
    assert engine.requests[0].body == body


@pytest.mark.parametrize("body", [b'{"model":"m"}', b'{"model":"m","stream":false}'])
async def test_without_a_stream_nothing_is_asked_for(lab: Lab, body: bytes) -> None:
    engine = await lab.answering(OK, dialect=Dialect(counts=True))
    await lab.chat(body)
    assert engine.requests[0].body == body


async def test_an_engine_that_cannot_count_is_not_asked_to(lab: Lab) -> None:
    engine = await lab.answering(SSE + chunk(EVENT + DONE) + END)
    await lab.chat(STREAM)
    assert engine.requests[0].body == STREAM


async def test_a_stream_that_was_aborted_is_no_success(lab: Lab) -> None:
    await lab.answering(SSE + chunk(EVENT) + chunk(ABORT + DONE) + END, dialect=Dialect(aborts=True))
    reply = await lab.chat(STREAM)
    assert reply.body.startswith(EVENT + b'data: {"error":')
    assert b"[DONE]" not in reply.body
    assert (lab.records[0].error, lab.records[0].status) == ("engine_failed", 200)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_was_aborted_before_its_first_word_is_asked_elsewhere(lab: Lab, stream: bool) -> None:
    whole = answer(b'{"model":"m","choices":[{"finish_reason": "abort"}]}')
    good = SSE + chunk(EVENT + DONE) + END if stream else OK
    await lab.answering(SSE + chunk(ABORT + DONE) + END if stream else whole, dialect=Dialect(aborts=True))
    await lab.answering(good, dialect=Dialect(aborts=True))
    for _ in range(2):
        reply = await lab.chat(STREAM if stream else b'{"model":"m"}')
        assert reply.body == (EVENT + DONE if stream else b'{"model":"m","ok":true}')


@pytest.mark.parametrize("cut", [0, 30, 90])
async def test_an_answer_that_was_aborted_is_no_success(lab: Lab, cut: int) -> None:
    whole = answer(b'{"model":"m","choices":[{"finish_reason":"abort"}]}')
    await lab.engine(in_two(whole, cut), dialect=Dialect(aborts=True))
    reply = await lab.chat()
    assert (reply.status, reply.code) == (502, "engine_failed")


async def test_a_word_like_it_is_not_it(lab: Lab) -> None:
    text = b'data: {"choices":[{"delta":{"content":"\\"finish_reason\\":\\"abort\\""},"finish_reason":null}]}\n\n'
    await lab.answering(SSE + chunk(text + DONE) + END, dialect=Dialect(aborts=True))
    assert (await lab.chat(STREAM)).body == text + DONE


RERANK = b'{"model":"m","query":"q","documents":["a","b"],"top_n":null,"return_documents":true}'


@pytest.mark.parametrize("cut", [0, 30, 90])
async def test_a_rerank_is_what_clients_expect(lab: Lab, cut: int) -> None:
    said = b'{"model":"inner","results":[{"index":0,"relevance_score":-2.0},{"index":1,"relevance_score":3.0}]}'
    engine = await lab.engine(in_two(answer(said), cut), served="inner", dialect=Dialect(logits=True))
    manner(lab, wants=Wants(normalize_scores=True))
    reply = (await lab.ask(post(RERANK, b"/rerank"))).json()
    assert reply["model"] == "m"
    assert [(each["index"], each["document"]) for each in reply["results"]] == [(1, {"text": "b"}), (0, {"text": "a"})]
    assert all(0 < each["relevance_score"] < 1 for each in reply["results"])
    assert b"top_n" not in engine.wires[0].received


async def test_a_refused_rerank_is_told_as_it_is(lab: Lab) -> None:
    refusal = b'{"error":{"message":"no"}}'
    await lab.answering(answer(refusal, status=b"422 No"))
    reply = await lab.ask(post(RERANK, b"/v1/rerank"))
    assert (reply.status, reply.body) == (422, refusal)


async def test_a_rerank_that_is_none_is_an_engines_fault(lab: Lab) -> None:
    await lab.answering(answer(b'{"resolts":[]}'))
    assert (await lab.ask(post(RERANK, b"/v1/rerank"))).code == "engine_failed"


async def test_many_inputs_are_asked_in_parts(lab: Lab) -> None:
    def vector(number: int) -> bytes:
        usage = b'"usage":{"prompt_tokens":2,"total_tokens":2}'
        return answer(b'{"model":"inner","data":[{"index":0,"embedding":[%d.0]}],%b}' % (number, usage))

    engine = await lab.answering(vector(0), vector(1), vector(2), served="inner", dialect=Dialect(max_inputs=1))
    body = b'{"model":"m","input":["a","b","c"]}'
    reply = (await lab.ask(post(body, b"/v1/embeddings"))).json()
    assert [(each["index"], each["embedding"]) for each in reply["data"]] == [(0, [0.0]), (1, [1.0]), (2, [2.0])]
    assert (reply["model"], reply["usage"]["prompt_tokens"]) == ("m", 6)
    assert [msgspec.json.decode(seen.body)["model"] for seen in engine.requests] == ["inner"] * 3
    assert len(engine.wires) == 1
    assert lab.records[0].prompt_tokens == 6


async def test_a_part_that_is_refused_refuses_the_whole(lab: Lab) -> None:
    good = answer(b'{"model":"m","data":[{"index":0,"embedding":[1.0]}]}')
    await lab.answering(good, answer(b'{"error":"b"}', status=b"400 Bad"), dialect=Dialect(max_inputs=1))
    reply = await lab.ask(post(b'{"model":"m","input":["a","b","c"]}', b"/v1/embeddings"))
    assert (reply.status, reply.body) == (400, b'{"error":"b"}')


async def test_members_that_an_engine_refuses_are_left_out(lab: Lab) -> None:
    takes = {"/v1/chat/completions": frozenset({"messages", "stream"})}
    engine = await lab.answering(OK, dialect=Dialect(takes=takes))
    await lab.chat(b'{"model":"m","messages":[ 1 ],"user":"u","n":1}')
    assert engine.requests[0].body.replace(b" ", b"") == b'{"model":"m","messages":[1]}'

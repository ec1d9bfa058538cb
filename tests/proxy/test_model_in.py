"""`model` on its way in: the engine gets its own name in place of the public one, and no other byte changes."""

import asyncio
import json

import pytest
from lab import OK, Lab

pytestmark = pytest.mark.anyio

BIG = b"x" * 900_000


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        (b'{"model":"m"}', b'{"model":"inner/name"}'),
        (b'{"model":"m","messages":[]}', b'{"model":"inner/name","messages":[]}'),
        (b'{"a":1,"model":"m","b":2}', b'{"a":1,"model":"inner/name","b":2}'),
        (b'{"a":{"b":[1,{}]},"model":"m"}', b'{"a":{"b":[1,{}]},"model":"inner/name"}'),
        (b'\n{ \t"model"\r\n : \n"m" , "a" : 1 }\n', b'\n{ \t"model"\r\n : \n"inner/name" , "a" : 1 }\n'),
        (b'{"mod\\u0065l":"m"}', b'{"mod\\u0065l":"inner/name"}'),
        (b'{"\\u006Dodel":"m","model_":"model"}', b'{"\\u006Dodel":"inner/name","model_":"model"}'),
        (b'{"model":"\\u006d"}', b'{"model":"inner/name"}'),
        (b'{"a":"\\u0065","model":"m"}', b'{"a":"\\u0065","model":"inner/name"}'),
        (b'{"a":{"model":"m"},"model":"m"}', b'{"a":{"model":"m"},"model":"inner/name"}'),
        (b'{"model":"m","a":[{"model":"m"}]}', b'{"model":"inner/name","a":[{"model":"m"}]}'),
        (b'{"a":"\\"model\\":\\"m\\"","model":"m"}', b'{"a":"\\"model\\":\\"m\\"","model":"inner/name"}'),
        (b'{"a":"model","model":"m","b":"model"}', b'{"a":"model","model":"inner/name","b":"model"}'),
        (b'{"a":"}{][\\\\","model":"m","b":"model"}', b'{"a":"}{][\\\\","model":"inner/name","b":"model"}'),
        (b'{"Model":"m2","model":"m"}', b'{"Model":"m2","model":"inner/name"}'),
        (b'{"model":"m","p":"' + BIG + b'"}', b'{"model":"inner/name","p":"' + BIG + b'"}'),
        (b'{"p":"' + BIG + b'","q":"model","model":"m"}', b'{"p":"' + BIG + b'","q":"model","model":"inner/name"}'),
        ('{"a":"\u2028é漢😀","model":"m"}'.encode(), '{"a":"\u2028é漢😀","model":"inner/name"}'.encode()),
    ],
)
async def test_only_the_top_models_value_is_replaced(lab: Lab, sent: bytes, got: bytes) -> None:
    engine = await lab.answering(OK, served="inner/name")
    assert (await lab.chat(sent)).status == 200
    assert engine.requests[0].body == got
    assert json.loads(got)["model"] == "inner/name"


@pytest.mark.parametrize("served", ['quo"te', "back\\slash", "ünï/漢字", "a" * 4000, "new\nline"])
async def test_any_name_of_the_engines_is_written_as_json(lab: Lab, served: str) -> None:
    engine = await lab.answering(OK, served=served)
    await lab.chat(b'{"a":1,"model":"m","b":[2]}')
    assert json.loads(engine.requests[0].body) == {"a": 1, "model": served, "b": [2]}


async def test_an_alias_leads_to_the_engines_name(lab: Lab) -> None:
    engine = await lab.answering(OK)
    await lab.chat(b'{"model":"alias"}')
    assert engine.requests[0].body == b'{"model":"m"}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","x":[1, 2 ,3],"y":1.0e5}',
        b' {"model" : "m" }\r\n',
        b'{"mod\\u0065l":"\\u006d"}',
        b'{"a":{"model":1},"model":"m"}',
    ],
)
async def test_equal_names_leave_the_body_as_it_is(lab: Lab, body: bytes) -> None:
    engine = await lab.answering(OK)
    await lab.chat(body)
    assert engine.requests[0].body == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","model":"m"}',
        b'{"model":"x","a":1,"mod\\u0065l":"m"}',
        b'{"mod\\u0065l":"x","model":"m"}',
        b'{"model":null,"model":"m"}',
        b'{"model":{"a":1},"model":"m"}',
    ],
)
@pytest.mark.parametrize("served", ["m", "inner"])
async def test_a_model_that_stands_twice_is_refused(lab: Lab, body: bytes, served: str) -> None:
    engine = await lab.answering(OK, served=served)
    reply = await lab.chat(body)
    assert (reply.status, reply.code) in [(400, "duplicate_model"), (400, "missing_model")]
    assert not engine.wires


async def test_a_body_in_chunks_is_put_together(lab: Lab) -> None:
    engine = await lab.answering(OK, served="inner")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n"
    wire = await lab.send(head)
    for byte in b'{"model":"m"}':
        await wire.send(b"1\r\n%c\r\n" % byte)
    await wire.send(b"0\r\n\r\n")
    assert (await wire.response()).status == 200
    assert engine.requests[0].body == b'{"model":"inner"}'
    assert engine.requests[0][b"content-length"] == b"17"
    assert engine.requests[0][b"transfer-encoding"] is None


@pytest.mark.parametrize("filler", [b"[],", b'"",', b'"model",', b'"\\"",'])
async def test_punctuation_without_end_holds_nobody_up(lab: Lab, filler: bytes) -> None:
    engine = await lab.answering(OK, served="inner")
    body = b'{"a":{"model":0},"x":[' + filler * (900_000 // len(filler)) + b'0],"model":"m"}'
    began = asyncio.get_running_loop().time()
    assert (await lab.chat(body)).status == 200
    assert asyncio.get_running_loop().time() - began < 0.5
    assert engine.requests[0].body == body[:-4] + b'"inner"}'


async def test_the_model_is_found_among_a_thousand_look_alikes(lab: Lab) -> None:
    engine = await lab.answering(OK, served="inner")
    body = b'{"x":[' + b'{"model":"m"},' * 500 + b'0],"model":"m","y":[' + b'{"model":"m"},' * 499 + b"0]}"
    assert (await lab.chat(body)).status == 200
    assert engine.requests[0].body == body.replace(b'],"model":"m",', b'],"model":"inner",')


async def test_more_look_alikes_than_that_are_refused_at_once(lab: Lab) -> None:
    engine = await lab.answering(OK, served="inner")
    began = asyncio.get_running_loop().time()
    reply = await lab.chat(b'{"x":[' + b'{"model":1},' * 80_000 + b'0],"model":"m"}')
    assert (reply.status, reply.code) == (400, "invalid_json")
    assert asyncio.get_running_loop().time() - began < 0.5
    assert not engine.wires

"""What a client has to mend: a clear 4xx in the envelope, and the engine never sees the request."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import asyncio

import pytest
from lab import OK, Lab, Message, post

pytestmark = pytest.mark.anyio
DEEP = 200_000
NOT_JSON = [
    b"", b" ", b"{", b'{"model":"m"', b'{"model":"m"}}', b'{"model":"m"}\x00', b'{"model":"m"} x', b'{"model":"m",}', b"{'model':'m'}",
    b'{"model":"m","x":NaN}', b'{"model":"m","x":Infinity}', b'{"model":"m","x":01}', b'{"model":"m","x":.5}', b'{"model":"m","x":tru}',
    b'{"model":"m","x":"\n"}', b'{"model":"m","x":"\\q"}', b'{"model":"m","x":"\\u12"}', b'{model:"m"}', b'{"model":"m"/**/}',
    b'\xef\xbb\xbf{"model":"m"}', '{"model":"m"}'.encode("utf-16"), b'{"model":"\xff"}', b'{"model":"m","x":"\xff"}',
    b'{"model":"m","x":"\xc3"}', b'{"model":"m","\xed\xa0\x80":1}', b'{"model":"m","x":"\xc0\xaf"}', b'{"model":"m","x":"\\ud800"}',
    b'{"model":"\\ud800"}', b"null", b"[]", b'["model"]', b'"model"', b"1", b'{"a":' * DEEP, b'{"model":"m","x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"model":"m","x":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
]  # fmt: skip
NO_MODEL = [
    b"{}", b'{"model":null}', b'{"model":""}', b'{"model":1}', b'{"model":["m"]}', b'{"model":{"model":"m"}}', b'{"model":true}',
    b'{"Model":"m"}', b'{"x":{"model":"m"}}', b'{"x":"\\"model\\":\\"m\\""}',
]  # fmt: skip


async def refused(lab: Lab, data: bytes) -> Message:
    engine = await lab.answering(OK, served="inner")
    reply = await lab.ask(data)
    assert not engine.wires
    return reply


@pytest.mark.parametrize("body", NOT_JSON, ids=[str(body[:40]) for body in NOT_JSON])
async def test_what_is_not_a_json_object_is_400(lab: Lab, body: bytes) -> None:
    reply = await refused(lab, post(body))
    assert (reply.status, reply.code) == (400, "invalid_json")


@pytest.mark.parametrize("body", NO_MODEL)
async def test_without_a_model_it_is_400(lab: Lab, body: bytes) -> None:
    reply = await refused(lab, post(body))
    assert (reply.status, reply.code) == (400, "missing_model")
    assert reply.json()["error"]["param"] == "model"


@pytest.mark.parametrize(
    "kind",
    [b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=B", b"application/jsonp"],
)
async def test_another_type_than_json_is_415(lab: Lab, kind: bytes) -> None:
    reply = await refused(lab, post(b'{"model":"m"}', kind=kind))
    assert (reply.status, reply.code) == (415, "unsupported_media_type")


async def test_another_type_than_a_form_is_415(lab: Lab) -> None:
    reply = await refused(lab, post(b'{"model":"m"}', b"/v1/audio/transcriptions"))
    assert (reply.status, reply.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize("packing", [b"gzip", b"br", b"identity, gzip"])
async def test_a_packed_body_is_415(lab: Lab, packing: bytes) -> None:
    reply = await refused(lab, post(b"\x1f\x8b", extra=b"content-encoding: " + packing + b"\r\n"))
    assert (reply.status, reply.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", [b"application/json; charset=utf-8", b"Application/JSON", b"application/vnd.api+json", b""]
)
async def test_json_may_be_called_in_several_ways(lab: Lab, kind: bytes) -> None:
    await lab.answering(OK)
    assert (await lab.ask(post(b'{"model":"m"}', kind=kind))).status == 200


async def test_a_declared_length_beyond_the_limit_is_413_before_the_body_comes(lab: Lab) -> None:
    lab.limits.max_body = 100
    reply = await refused(lab, post(b"x" * 101)[:-101])
    assert (reply.status, reply.code) == (413, "body_too_large")
    assert "100 bytes" in reply.json()["detail"]


async def test_a_body_that_grows_beyond_the_limit_is_413(lab: Lab) -> None:
    lab.limits.max_body = 100
    head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    reply = await refused(lab, head + b"32\r\n" + b"x" * 50 + b"\r\n33\r\n" + b"x" * 51 + b"\r\n")
    assert (reply.status, reply.code) == (413, "body_too_large")


async def test_a_body_of_just_the_limit_is_taken(lab: Lab) -> None:
    body = b'{"model":"m","x":"%b"}' % (b"y" * 500_000)
    lab.limits.max_body = len(body)
    engine = await lab.answering(OK)
    assert (await lab.chat(body)).status == 200
    assert engine.requests[0].body == body


async def test_after_413_the_connection_can_be_used_again(lab: Lab) -> None:
    lab.limits.max_body = 100
    await lab.answering(OK)
    wire = await lab.send(post(b"x" * 200_000))
    assert (await wire.response()).status == 413
    await wire.send(post(b'{"model":"m"}'))
    assert (await wire.response()).status == 200


async def test_a_body_that_stops_coming_is_408_and_the_end(lab: Lab) -> None:
    lab.limits.body_timeout = 0.05
    engine = await lab.answering(OK)
    wire = await lab.send(post(b'{"model":"m"}')[:-1])
    reply = await wire.response()
    assert (reply.status, reply.code, reply[b"connection"]) == (408, "body_timeout", b"close")
    await wire.gone()
    assert not engine.wires


async def test_a_slow_upload_goes_on_as_long_as_it_moves(lab: Lab) -> None:
    """Each pause is half of what is allowed, all of them together are several times that."""
    lab.limits.body_timeout = 0.2
    await lab.answering(OK)
    data = post(b'{"model":"m"}')
    wire = await lab.send(data[:-8])
    for byte in data[-8:]:
        await asyncio.sleep(0.1)  # the pause is what is tested
        await wire.send(b"%c" % byte)
    assert (await wire.response()).status == 200

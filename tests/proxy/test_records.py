"""One record a request, whatever becomes of it, and what it says is true."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from lab import END, OK, SSE, Lab, Wire, answer, chunk, post, until

from router.measures import BATCH, Record
from router.proxy.keys import Keys

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
USAGE = b'"usage":{"prompt_tokens":7,"completion_tokens":11}'
EVENT = b'data: {"model":"m"}\n\n'
COUNTED = b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'


@dataclass
class Key:
    name: str
    digest: bytes
    admin: bool = False


async def only(lab: Lab, **expected: Any) -> Record:
    """The one record there is, which has these values; times are what they can be."""
    await until(lambda: lab.records)
    for _ in range(20):
        await asyncio.sleep(0)
    (record,) = lab.records
    assert {name: getattr(record, name) for name in expected} == expected
    assert 0 <= record.own_ms <= record.total_ms + 0.01
    assert record.queue_ms <= record.total_ms + 1  # who waits is cancelled a little after the end
    assert record.first_ms is None or 0 <= record.first_ms <= record.total_ms
    assert (record.client, bool(record.id), record.path) == ("127.0.0.1", True, "/v1/chat/completions")
    return record


async def test_an_answer(lab: Lab) -> None:
    body = b'{"model":"m",%b}' % USAGE
    await lab.answering(answer(body))
    await lab.chat(b'{"model":"alias"}', extra=b"x-request-id: mine\r\n")
    record = await only(
        lab, id="mine", status=200, asked="alias", model="m", target="m#0", stream=False, error="", retries=0, key="",
        method="POST", request_bytes=17, response_bytes=len(body.replace(b'"m"', b'"alias"')), prompt_tokens=7, completion_tokens=11,
    )  # fmt: skip
    assert record.first_ms is not None


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n"])
@pytest.mark.parametrize("served", ["m", "inner"])
async def test_a_stream(lab: Lab, end: bytes, served: str) -> None:
    stream = (EVENT * 3 + COUNTED).replace(b'"m"', b'"%b"' % served.encode()) + end
    await lab.answering(SSE + chunk(stream) + END, served=served)
    reply = await lab.chat()
    assert reply.body == EVENT * 3 + COUNTED + end
    await only(lab, status=200, asked="", model="m", target="m#0", stream=True, error="", request_bytes=13,
               response_bytes=len(reply.body), prompt_tokens=3, completion_tokens=5)  # fmt: skip


async def test_an_answer_in_pieces_counts_its_tokens_too(lab: Lab) -> None:
    body = b'{"model":"m","x":"%b",%b}' % (b"y" * 9_000, USAGE)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"

    async def script(wire: Wire) -> None:
        await wire.request()
        for piece in (head, chunk(body[:4000]), chunk(body[4000:]), END):
            await wire.send(piece)
            await asyncio.sleep(0.005)  # so that each is a read of its own

    await lab.engine(script)
    assert (await lab.chat()).body == body
    await only(lab, status=200, prompt_tokens=7, completion_tokens=11, response_bytes=len(body))


async def test_an_engines_own_error_is_no_error_of_ours(lab: Lab) -> None:
    await lab.answering(answer(b"busy", b"text/plain", b"429 Too Many Requests"))
    await lab.chat()
    await only(lab, status=429, model="m", target="m#0", error="", response_bytes=4, prompt_tokens=None)


@pytest.mark.parametrize(
    ("data", "status", "error", "model", "asked"),
    [
        (post(BODY).replace(b"POST", b"GET"), 405, "method_not_allowed", "", ""),
        (post(BODY).replace(b"POST", b"HEAD"), 405, "method_not_allowed", "", ""),
        (post(BODY, kind=b"text/plain"), 415, "unsupported_media_type", "", ""),
        (post(b" " * 2_000), 413, "body_too_large", "", ""),
        (post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked") + b"7d0\r\n" + b" " * 2_000 + b"\r\n0\r\n\r\n", 413, "body_too_large", "", ""),
        (post(b"{"), 400, "invalid_json", "", ""),
        (post(b"{}"), 400, "missing_model", "", ""),
        (post(b'{"model":"m","model":"m"}'), 400, "duplicate_model", "", ""),
        (post(b'{"model":"nobody"}'), 404, "model_not_found", "", "nobody"),
        (post(b'{"model":"%b"}' % (b"x" * 900)), 404, "model_not_found", "", "x" * 200),
        (post(b'{"model":"alias"}'), 503, "model_not_ready", "m", "alias"),
        (post(BODY), 503, "model_not_ready", "m", ""),
    ],
)  # fmt: skip
async def test_a_refusal(lab: Lab, data: bytes, status: int, error: str, model: str, asked: str) -> None:
    lab.limits.max_body, lab.limits.queue_timeout = 1_000, 0.02
    wire = await lab.send(data)
    head = await wire.head()
    assert head.status == status
    await only(lab, status=status, error=error, model=model, asked=asked, target="", stream=False, retries=0,
               method=data[: data.index(b" ")].decode(), prompt_tokens=None, first_ms=None)  # fmt: skip


async def test_a_wrong_key_and_a_known_one(lab: Lab) -> None:
    lab.proxy.keys = Keys([Key("dify", hashlib.sha256(b"sk-dify").digest())])
    await lab.answering(OK)
    for key in (b"sk-wrong", b"sk-dify", b"sk-wrong"):
        await lab.chat(extra=b"x-api-key: %b\r\n" % key)
    assert [(record.status, record.key, record.error, record.model) for record in lab.records] == [
        (401, "", "invalid_api_key", ""), (200, "dify", "", "m"), (401, "", "invalid_api_key", ""),
    ]  # fmt: skip


async def test_a_path_the_model_does_not_serve(lab: Lab) -> None:
    lab.model.paths = frozenset({"/v1/embeddings"})
    await lab.answering(OK)
    await lab.chat()
    await only(lab, status=501, error="not_supported_by_model", model="m", target="")


async def test_a_body_that_stopped_coming(lab: Lab) -> None:
    lab.limits.body_timeout = 0.05
    await lab.send(post(BODY)[:-1])
    await only(lab, status=408, error="body_timeout", model="", request_bytes=12)


async def test_a_wait_in_vain_is_told(lab: Lab) -> None:
    lab.limits.queue_timeout = 0.05
    await lab.chat()
    record = await only(lab, status=503)
    assert record.start_ms is not None
    assert record.start_ms >= 45
    assert record.queue_ms == 0
    assert record.own_ms < 20


async def test_a_wait_for_a_free_replica_is_no_wait_for_a_start(lab: Lab) -> None:
    lab.limits.queue_timeout = 0.05
    await lab.answering(OK)
    lab.targets[0].limit = 0
    await lab.chat()
    record = await only(lab, status=503)
    assert record.start_ms is None
    assert record.queue_ms >= 45


async def test_a_wait_that_ended_well_is_told(lab: Lab) -> None:
    engine = await lab.answering(OK)
    lab.model.remove(lab.targets[0])
    wire = await lab.send(post(BODY))
    await until(lambda: lab.model.waiting)
    await asyncio.sleep(0.05)
    lab.add(engine)
    assert (await wire.response()).status == 200
    record = await only(lab, status=200, target="m#1")
    assert record.start_ms is not None
    assert record.start_ms >= 45


async def died(wire: Wire) -> None:
    await wire.request()


async def test_an_engine_that_failed(lab: Lab) -> None:
    await lab.engine(died)
    await lab.chat()
    await only(lab, status=502, error="engine_failed", model="m", target="m#0", retries=1, first_ms=None)


async def test_one_that_refuses_connections(lab: Lab) -> None:
    (await lab.engine(died)).refuse()
    await lab.chat()
    await only(lab, status=502, error="engine_failed", target="m#0")


async def test_one_that_is_too_slow(lab: Lab) -> None:
    lab.limits.response_timeout = 0.05

    async def silent(wire: Wire) -> None:
        await wire.request()
        await wire.gone(5.0)

    await lab.engine(silent)
    await lab.chat()
    await only(lab, status=504, error="engine_timeout", target="m#0")


async def test_another_replica_that_answered_is_the_one_recorded(lab: Lab) -> None:
    await lab.engine(died)
    await lab.answering(OK)
    assert (await lab.chat()).status == 200
    await only(lab, status=200, error="", target="m#1", retries=1)


async def test_a_kept_connection_that_was_replaced_is_no_retry(lab: Lab) -> None:
    async def once(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        await wire.request()

    await lab.engine(once)
    for _ in range(3):
        assert (await lab.chat()).status == 200
    assert [(record.status, record.retries, record.target) for record in lab.records] == [(200, 0, "m#0")] * 3


async def test_a_stream_that_broke_off(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE + chunk(EVENT))

    await lab.engine(script)
    reply = await lab.chat()
    await only(lab, status=200, error="engine_failed", stream=True, response_bytes=len(reply.body))


async def test_an_answer_that_broke_off(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK[:-3])

    await lab.engine(script)
    reply = await lab.chat()
    await only(lab, status=200, error="engine_failed", stream=False, response_bytes=len(reply.body))


async def stuck(wire: Wire) -> None:
    await wire.request()
    await wire.gone(5.0)


async def streaming(wire: Wire) -> None:
    await wire.request()
    await wire.send(SSE + chunk(EVENT))
    await wire.gone(5.0)


LEAVING: dict[str, tuple[Any, Callable[[Lab], Any], dict[str, Any]]] = {
    "while it waits": (None, lambda lab: lab.model.waiting, {"status": 499, "target": "", "model": "m"}),
    "before the answer": (stuck, lambda lab: lab.engines[0].wires and lab.targets[0].in_flight, {"status": 499, "target": "m#0"}),
    "in a stream": (streaming, lambda lab: lab.engines[0].wires, {"status": 200, "target": "m#0", "stream": True, "response_bytes": len(EVENT)}),
}  # fmt: skip


@pytest.mark.parametrize("when", LEAVING)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_left(lab: Lab, when: str, how: str) -> None:
    script, begun, expected = LEAVING[when]
    if script:
        await lab.engine(script)
    wire = await lab.send(post(BODY))
    await until(lambda: begun(lab))
    if when == "in a stream":
        await wire.head()
        await wire.chunk()
    getattr(wire, how)()
    await only(lab, error="client_gone", retries=0, **expected)


async def test_a_client_that_left_during_the_upload(lab: Lab) -> None:
    wire = await lab.send(post(BODY)[:-3])
    await until(lambda: lab.in_work)
    wire.reset()
    await only(lab, status=499, error="client_gone", model="", target="", request_bytes=10)


@pytest.mark.parametrize("script", [stuck, streaming, None])
async def test_a_router_that_stops(lab: Lab, script: Any) -> None:
    if script:
        await lab.engine(script)
    wire = await lab.send(post(BODY))
    await until((lambda: lab.engines[0].wires) if script else (lambda: lab.model.waiting))
    if script is streaming:
        await wire.head()
        await wire.chunk()
    lab.server.should_exit = True
    await wire.rest()
    await only(lab, status=200 if script is streaming else 503, error="shutting_down", stream=script is streaming)


async def test_pipelined_requests_have_a_record_each(lab: Lab) -> None:
    await lab.answering(OK)
    wire = await lab.send((post(BODY) + post(b"{}") + post(b'{"model":"nobody"}')) * 4)
    for _ in range(12):
        await wire.response()
    assert sorted(record.status for record in lab.records) == [200] * 4 + [400] * 4 + [404] * 4
    assert len({record.id for record in lab.records}) == 12


async def test_queued_requests_whose_client_left_were_never_begun(lab: Lab) -> None:
    await lab.engine(stuck)
    wire = await lab.send(post(BODY) * 5)
    await until(lambda: lab.engines[0].wires)
    wire.reset()
    await only(lab, status=499, error="client_gone")


async def test_what_is_not_of_the_data_plane_has_none(lab: Lab) -> None:
    for path in (b"/health", b"/ready", b"/metrics", b"/v1/models", b"/nowhere"):
        await lab.ask(b"GET %b HTTP/1.1\r\nhost: r\r\n\r\n" % path)
    await lab.ask(b"garbage\r\n\r\n")
    assert lab.records == []


async def test_an_id_without_measure_is_not_taken(lab: Lab) -> None:
    await lab.answering(OK)
    for id in (b"x" * 128, b"x" * 129, b"\xfc", b"", b"a b"):  # noqa: A001
        await lab.chat(extra=b"x-request-id: " + id + b"\r\n")
    ids = [record.id for record in lab.records]
    assert ids[0] == "x" * 128
    assert {len(id) for id in ids[1:]} == {20}  # noqa: A001


async def test_they_are_written_down_in_the_order_of_their_ends_by_themselves(lab: Lab) -> None:
    """At once when there are many, else a little later."""
    await lab.answering(OK)
    wire = await lab.client()
    for number in range(BATCH + 2):
        await wire.send(post(BODY, extra=b"x-request-id: %d\r\n" % number))
        await wire.response()
    assert len(lab._records) >= BATCH
    await until(lambda: len(lab._records) == BATCH + 2)
    assert [record.id for record in lab.records] == [str(number) for number in range(BATCH + 2)]

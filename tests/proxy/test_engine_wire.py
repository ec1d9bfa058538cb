"""Every way in which an engine's bytes may come: each answer is whole, and never mixed with another's."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import asyncio
import ssl
from pathlib import Path

import anyio
import pytest
from lab import END, OK, SSE, Engine, Lab, Wire, answer, chunk, post, until

from router.catalog import Address, Target

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'


async def ask(wire: Wire) -> bytes:
    await wire.send(post(BODY))
    reply = await wire.response()
    assert reply.status == 200
    return reply.body


async def test_connections_are_kept_and_used_again(lab: Lab) -> None:
    engine = await lab.answering(*(answer(b"%d" % number) for number in range(20)))
    wire = await lab.client()
    assert [await ask(wire) for _ in range(20)] == [b"%d" % number for number in range(20)]
    assert len(engine.wires) == 1


async def test_a_connection_is_used_no_more_often_than_the_engine_allows(lab: Lab) -> None:
    engine = await lab.answering(OK, reuse=3)
    wire = await lab.client()
    for _ in range(7):
        await ask(wire)
    assert len(engine.wires) == 3


async def test_a_connection_idle_for_too_long_is_not_used(lab: Lab) -> None:
    engine = await lab.answering(OK, idle=0.02)
    wire = await lab.client()
    for count in (1, 2):
        await ask(wire)
        await asyncio.sleep(0.03)
        assert len(engine.wires) == count


async def test_idle_connections_are_closed_in_time(lab: Lab) -> None:
    engine = await lab.answering(OK, idle=0.02)
    await lab.chat()
    await engine.left()
    assert lab._pools()[0].idle == []


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
async def test_a_connection_the_engine_will_close_is_not_kept(lab: Lab, head: bytes) -> None:
    engine = await lab.answering(head + b"content-length: 2\r\n\r\nok")
    wire = await lab.client()
    assert [await ask(wire), await ask(wire)] == [b"ok", b"ok"]
    assert len(engine.wires) == 2


async def test_an_answer_without_a_length_ends_with_the_connection(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nto the ")
        await wire.send(b"end")

    await lab.engine(script)
    reply = await lab.chat()
    assert (reply.complete, reply.body) == (True, b"to the end")


@pytest.mark.parametrize(
    "early",
    [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 P\r\nx: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n"],
)
async def test_informational_answers_are_passed_over(lab: Lab, early: bytes) -> None:
    engine = await lab.answering(early + OK)
    wire = await lab.client()
    for _ in range(3):
        await wire.send(post(BODY))
        reply = await wire.response()
        assert (reply.status, reply[b"link"], reply[b"x"], reply.body) == (200, None, None, b'{"model":"m","ok":true}')
    assert len(engine.wires) == 1


@pytest.mark.parametrize(
    "extra",
    [
        b"garbage",
        b"\x00",
        b"\r\nHTTP",
        answer(b"of another"),
        SSE + chunk(b"data: 1\n\n") + END,
        b"HTTP/1.1 999 X\r\n\r\n",
    ],
)
@pytest.mark.parametrize(
    "first",
    [
        answer(b"mine"),
        answer(b"")[:-2].replace(b"content-length: 0\r", b"transfer-encoding: chunked\r\n\r") + b"4\r\nmine\r\n" + END,
    ],
)
async def test_bytes_behind_an_answer_never_reach_anybody(lab: Lab, first: bytes, extra: bytes) -> None:
    engine = await lab.answering(first + extra)
    wire = await lab.client()
    assert [await ask(wire) for _ in range(3)] == [b"mine"] * 3
    assert len(engine.wires) == 3


async def test_bytes_on_an_idle_connection_end_it(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(b"mine"))
        await until(lambda: lab._pools()[0].idle)
        await wire.send(answer(b"of another"))
        await wire.gone()

    engine = await lab.engine(script)
    wire = await lab.client()
    assert await ask(wire) == b"mine"
    await until(lambda: not lab._pools()[0].idle)
    assert await ask(wire) == b"mine"
    assert len(engine.wires) == 2


ANSWERS = {
    "with a length": answer(b'{"model":"inner","x":"y"}'),
    "in chunks": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    + chunk(b'{"model":"inn') + chunk(b'er","x":"y"}') + END,
    "a stream": SSE + chunk(b'data: {"model":"inner"}\n\ndata: [DO') + chunk(b"NE]\n\n") + END,
}  # fmt: skip


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("served", ["m", "inner"])
@pytest.mark.parametrize("reset", [False, True])
async def test_an_engine_may_close_at_any_byte(lab: Lab, kind: str, served: str, reset: bool) -> None:
    """An error before the first byte, an event in a stream, or an answer that is visibly cut short; never a whole one."""
    whole = ANSWERS[kind]
    cut = 0

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(whole[:cut])
        if reset:
            wire.reset()

    await lab.engine(script, served=served)
    for cut in range(len(whole)):  # noqa: B007 - the engine reads it
        lab.model.close_circuit(lab.targets[0])
        reply = await lab.chat()
        if reply.status == 502:
            assert reply.code == "engine_failed"
        elif kind == "a stream":
            assert reply.complete
            # Where nothing but the end of the framing was missing, the answer is whole.
            assert reply.body.endswith(b"data: [DONE]\n\n") != (b"engine_failed" in reply.body)
        else:
            assert reply.status == 200
            assert not reply.complete


@pytest.mark.parametrize("kind", ANSWERS)
async def test_an_engine_may_dribble(lab: Lab, kind: str) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        for byte in ANSWERS[kind]:
            await wire.send(b"%c" % byte)

    await lab.engine(script, served="inner")
    reply = await lab.chat()
    assert reply.complete
    assert b'"model":"m"' in reply.body


async def test_an_answer_before_the_request_was_read_is_passed_on_and_the_connection_dropped(lab: Lab) -> None:
    lab.limits.max_body = 64 << 20
    done = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.send(answer(b"too much", status=b"413 Too Large"))
        await done.wait()

    engine = await lab.engine(script)
    wire = await lab.client()
    for count in (1, 2):
        await wire.send(post(b'{"model":"m","x":"' + b"y" * (32 << 20) + b'"}'))
        reply = await wire.response()
        assert (reply.status, reply.body) == (413, b"too much")
        assert len(engine.wires) == count
    done.set()


async def test_an_engine_that_does_not_read_its_request_is_given_up(lab: Lab) -> None:
    lab.limits.max_body, lab.limits.response_timeout = 64 << 20, 0.1
    end = asyncio.Event()

    async def script(_wire: Wire) -> None:
        await end.wait()

    engine = await lab.engine(script)
    wire = await lab.client()
    await wire.send(post(b'{"model":"m","x":"' + b"y" * (16 << 20) + b'"}'))
    reply = await wire.response()
    assert (reply.status, reply.code) == (504, "engine_timeout")
    assert len(engine.wires) == 1
    end.set()
    await wire.send(post(BODY))
    assert (await wire.response()).status == 502


async def test_a_thousand_requests_over_connections_that_close_after_each_hundred(lab: Lab) -> None:
    lab.limits.queue_size = 1000

    async def script(wire: Wire) -> None:
        for _ in range(100):
            if (request := await wire.request()) is None:
                return
            await wire.send(answer(request.body))

    await lab.engine(script)
    wires = [await lab.client() for _ in range(50)]
    for turn in range(20):
        for number, wire in enumerate(wires):
            await wire.send(post(b'{"model":"m","n":%d}' % (turn * 50 + number)))
        for number, wire in enumerate(wires):
            assert (await wire.response()).json()["n"] == turn * 50 + number


async def test_a_certificate_nobody_vouches_for_is_refused(lab: Lab, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    await _make_certificate(key, certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    engine = Engine().answering(OK)
    await engine.start(ssl=context)
    lab.engines.append(engine)
    lab.targets.append(Target("tls", Address("localhost", engine.port, tls=True), served="m", key="sk-secret"))
    lab.model.add(lab.targets[-1])
    reply = await lab.chat()
    assert (reply.status, reply.code) == (502, "engine_failed")
    assert "certificate verify failed" in reply.json()["detail"].lower().replace("_", " ")
    assert not engine.requests


async def _make_certificate(key: Path, certificate: Path) -> None:
    """For localhost, signed by itself."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout"
    process = await anyio.run_process([*command.split(), str(key), "-out", str(certificate)])
    assert process.returncode == 0

"""Headers both ways: what belongs to one hop stays there, secrets stay here, the rest goes on."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import pytest
from lab import OK, Lab, answer, post

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
HOPS = (
    b"Connection: keep-alive, X-Mine\r\nConnection: x-too\r\nKeep-Alive: 5\r\nProxy-Authorization: a\r\n"
    b"Proxy-Connection: a\r\nTE: trailers\r\nTrailer: x\r\nX-Mine: 1\r\nX-Too: 2\r\n"
)


async def test_what_concerns_one_hop_does_not_reach_the_engine(lab: Lab) -> None:
    engine = await lab.answering(OK)
    assert (await lab.ask(post(BODY, extra=HOPS + b"X-Other: 3\r\n"))).status == 200
    names = sorted(name for name, _ in engine.requests[0].headers)
    assert names == [b"content-length", b"content-type", b"host", b"x-other"]


async def test_what_concerns_one_hop_does_not_reach_the_client(lab: Lab) -> None:
    hops = HOPS.replace(b"Trailer: x\r\n", b"Proxy-Authenticate: a\r\n")
    await lab.answering(answer(BODY, extra=hops + b"X-Other: 3\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"))
    reply = await lab.chat()
    assert [name for name, _ in reply.passed_on] == [
        b"content-type", b"x-other", b"set-cookie", b"set-cookie", b"content-length",
    ]  # fmt: skip


@pytest.mark.parametrize("key", [None, "sk-engine"])
@pytest.mark.parametrize(
    "secret",
    [
        b"Authorization: Bearer hush",
        b"AUTHORIZATION: Basic hush",
        b"X-Api-Key: hush",
        b"api-key: hush",
        b"Cookie: s=hush",
    ],
)
async def test_the_clients_secrets_do_not_reach_the_engine(lab: Lab, secret: bytes, key: str | None) -> None:
    engine = await lab.answering(OK, key=key)
    assert (await lab.ask(post(BODY, extra=secret + b"\r\n" + secret + b"\r\n"))).status == 200
    assert b"hush" not in engine.wires[0].received
    assert engine.requests[0][b"authorization"] == (None if key is None else b"Bearer sk-engine")


async def test_the_engine_is_asked_by_its_own_address(lab: Lab) -> None:
    engine = await lab.answering(OK)
    await lab.chat()
    assert engine.requests[0][b"host"] == b"127.0.0.1:%d" % engine.port


async def test_headers_of_the_clients_own_go_on_in_order(lab: Lab) -> None:
    engine = await lab.answering(OK)
    mine = b"X-OpenWebUI-User-Id: 7\r\nX-A: \xfcber\r\nx-a: second\r\nAccept: */*\r\nanthropic-version: 1\r\n"
    await lab.ask(post(BODY, extra=mine))
    assert [header for header in engine.requests[0].headers if header[0] != b"host"][:-1] == [
        (b"content-type", b"application/json"), (b"x-openwebui-user-id", b"7"), (b"x-a", b"\xfcber"), (b"x-a", b"second"),
        (b"accept", b"*/*"), (b"anthropic-version", b"1"),
    ]  # fmt: skip


async def test_trailers_are_not_taken_for_headers(lab: Lab) -> None:
    engine = await lab.answering(OK)
    data = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    assert (await lab.ask(data + b"d\r\n" + BODY + b"\r\n0\r\nX-Late: 1\r\nConnection: close\r\n\r\n")).status == 200
    assert b"late" not in bytes(engine.wires[0].received).lower()


async def test_trailers_of_the_engine_are_dropped(lab: Lab) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    await lab.answering(head + b"2\r\nhi\r\n0\r\nX-Late: 1\r\n\r\n")
    wire = await lab.send(post(BODY) + post(BODY))
    assert (await wire.response()).body == (await wire.response()).body == b"hi"
    assert b"late" not in bytes(wire.received).lower()


async def test_the_query_is_passed_on_as_it_is(lab: Lab) -> None:
    engine = await lab.answering(OK)
    await lab.ask(post(BODY, b"/v1/chat/completions?a=%2F%00&model=x&&b=a+b?c"))
    assert engine.requests[0].target == b"/v1/chat/completions?a=%2F%00&model=x&&b=a+b?c"


async def test_no_compression_is_asked_for(lab: Lab) -> None:
    engine = await lab.answering(OK)
    await lab.ask(post(BODY, extra=b"Accept-Encoding: gzip, br\r\n"))
    assert engine.requests[0][b"accept-encoding"] is None


@pytest.mark.parametrize(
    "status", [b"201 Created", b"302 Found", b"404 Not Found", b"429 Slow", b"500 Oh", b"599 X", b"200"]
)
async def test_any_status_is_passed_on(lab: Lab, status: bytes) -> None:
    await lab.answering(answer(b"{}", status=status, extra=b"retry-after: 7\r\nlocation: /x\r\n"))
    reply = await lab.chat()
    assert (reply.status, reply[b"retry-after"], reply.body) == (int(status[:3]), b"7", b"{}")


@pytest.mark.parametrize(
    "head",
    [b"204 No Content\r\n", b"204 No Content\r\ncontent-length: 5\r\n", b"304 Not Modified\r\ncontent-length: 5\r\n"],
)
async def test_an_answer_without_a_body_ends_with_its_head(lab: Lab, head: bytes) -> None:
    engine = await lab.answering(b"HTTP/1.1 " + head + b"\r\n", OK)
    wire = await lab.send(post(BODY))
    assert (await wire.head()).status == int(head[:3])
    await wire.send(post(BODY))
    assert (await wire.response()).status == 200
    assert len(engine.wires) == 1

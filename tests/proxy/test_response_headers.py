"""What the router says of each answer in its headers: which request it was, who answered, where its time went."""

import hashlib
import re
from dataclasses import dataclass

import pytest
from lab import END, OK, SSE, Lab, Message, Wire, answer, chunk, post, until

from router.catalog import Address, Model, Target
from router.proxy.keys import Keys
from router.proxy.named import signature

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
STREAM = SSE + chunk(b'data: {"model":"inner"}\n\n') + END
GIVEN = re.compile(rb"[0-9a-f]{20}")
"""An id that the router has given."""
KINDS = {
    "in one piece": OK,
    "in chunks": SSE.replace(b"text/event-stream", b"application/json") + chunk(BODY) + END,
    "a stream": STREAM,
    "without a body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "up to the connection's end": b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nhi",
    "an error": answer(b'{"error":"no"}', status=b"400 Bad"),
}


@dataclass
class Key:
    name: str
    digest: bytes
    admin: bool = False


def timing(reply: Message) -> dict[str, float]:
    """Milliseconds by name, of a header that is what it has to be to the letter."""
    value = reply[b"server-timing"]
    assert value is not None
    number = r"(\d+\.\d)"
    pattern = rf"(?:start;dur={number}, )?queue;dur={number}, engine;dur={number}, router;dur={number[:-1]}\d)"
    found = re.fullmatch(pattern, value.decode())
    assert found is not None, value
    return dict(zip(("start", "queue", "engine", "router"), map(float, found.groups("0")), strict=True))


def given(reply: Message) -> bool:
    found = reply[b"x-request-id"]
    return found is not None and GIVEN.fullmatch(found) is not None


@pytest.mark.parametrize("served", ["m", "inner"])
@pytest.mark.parametrize("kind", KINDS)
async def test_each_answer_says_which_request_it_was_and_who_gave_it(lab: Lab, kind: str, served: str) -> None:
    async def script(wire: Wire) -> None:
        while await wire.request():
            await wire.send(KINDS[kind])
            if b"length" not in KINDS[kind] and b"chunked" not in KINDS[kind] and b"204" not in KINDS[kind]:
                return

    await lab.engine(script, served=served)
    wire = await lab.client()
    replies = []
    for _ in range(4):
        await wire.send(post(b'{"model":"alias"}'))
        replies.append(await wire.response())
    for reply in replies:
        assert given(reply)
        assert (reply[b"x-router-model"], reply[b"x-router-target"]) == (b"m", b"m#0")
        assert reply[b"x-router-retries"] is None
        assert timing(reply)["queue"] == 0
    ids = [reply[b"x-request-id"] for reply in replies]
    assert len(set(ids)) == 4
    assert [record.id.encode() for record in lab.records] == ids


@pytest.mark.parametrize("whole", [OK, STREAM])
async def test_the_times_are_those_that_are_recorded(lab: Lab, whole: bytes) -> None:
    engine = await lab.answering(whole)
    lab.model.remove(lab.targets[0])
    wire = await lab.send(post(BODY))
    await until(lambda: lab.model.waiting)
    lab.add(engine)
    times = timing(await wire.response())
    (record,) = lab.records
    assert record.start_ms is not None
    assert abs(times["start"] - record.start_ms) < 0.06
    assert times["queue"] == record.queue_ms == 0
    assert times["router"] <= record.own_ms + 0.01
    assert times["engine"] <= record.total_ms - record.start_ms + 0.06
    assert record.first_ms is not None
    assert sum(times.values()) <= record.first_ms + record.own_ms + 0.2


async def test_the_times_of_an_engine_that_was_asked_in_vain_are_not_the_other_ones(lab: Lab) -> None:
    async def bad(wire: Wire) -> None:
        await wire.request()

    await lab.engine(bad)
    await lab.answering(OK)
    reply = await lab.chat()
    assert (reply[b"x-router-target"], reply[b"x-router-retries"]) == (b"m#1", b"1")
    (record,) = lab.records
    assert (record.target, record.retries) == ("m#1", 1)
    assert timing(reply)["engine"] <= record.total_ms


async def test_where_none_could_answer_the_error_says_who_was_asked_last(lab: Lab) -> None:
    async def bad(wire: Wire) -> None:
        await wire.request()

    for _ in range(3):
        await lab.engine(bad)
    reply = await lab.chat()
    assert (reply.status, reply.code) == (502, "engine_failed")
    assert given(reply)
    assert (reply[b"x-router-model"], reply[b"x-router-target"]) == (b"m", b"m#2")
    assert reply[b"x-router-retries"] == b"3"
    assert reply[b"server-timing"] is None


@pytest.mark.parametrize(
    ("data", "status", "model"),
    [
        (post(b"{"), 400, None),
        (post(b'{"model":"nobody"}'), 404, None),
        (post(BODY, b"/v1/embeddings"), 501, b"m"),
        (post(BODY), 503, b"m"),
        (post(BODY).replace(b"POST", b"GET"), 405, None),
        (post(BODY, kind=b"text/plain"), 415, None),
        (post(b"x" * (1 << 20) + b"x"), 413, None),
        (post(BODY, b"/nowhere"), 404, None),
        (post(b"", b"/v1/models"), 405, None),
    ],
)
async def test_the_routers_own_errors_can_be_told_by_their_ids(
    lab: Lab, data: bytes, status: int, model: bytes | None
) -> None:
    lab.limits.queue_timeout = 0.01
    lab.model.paths = frozenset(["/v1/chat/completions"])
    reply = await lab.ask(data)
    assert (reply.status, reply[b"x-router-model"], reply[b"x-router-target"]) == (status, model, None)
    assert given(reply)
    assert [record.id.encode() for record in lab.records] in ([], [reply[b"x-request-id"]])
    again = await lab.ask(data.replace(b"host: router", b"host: router\r\nx-request-id: mine"))
    assert (again.status, again[b"x-request-id"]) == (status, b"mine")


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/models", b"/nowhere"])
async def test_who_is_not_let_in_gets_an_id_too(lab: Lab, path: bytes) -> None:
    lab.proxy.keys = Keys([Key("somebody", hashlib.sha256(b"sk-a").digest())])
    reply = await lab.ask(post(BODY, path))
    assert (reply.status, given(reply)) == (401, True)


@pytest.mark.parametrize("path", [b"/health", b"/ready", b"/v1/models", b"/v1/models/m", b"/v1/models/x", b"/metrics"])
async def test_what_the_router_answers_by_itself_has_one_as_well(lab: Lab, path: bytes) -> None:
    request = b"GET %b HTTP/1.1\r\nhost: r\r\n%b\r\n"
    assert given(await lab.ask(request % (path, b"")))
    assert (await lab.ask(request % (path, b"x-request-id: mine\r\n")))[b"x-request-id"] == b"mine"


async def test_what_is_no_request_has_no_id(lab: Lab) -> None:
    reply = await lab.ask(b"garbage\r\n\r\n")
    assert (reply.status, reply[b"x-request-id"]) == (400, None)


async def test_a_stream_that_breaks_off_and_one_that_is_renamed_late_have_them_once(lab: Lab) -> None:
    late = b'{"x":"' + b"y" * 9000 + b'","model":"inner"}'
    await lab.answering(SSE + chunk(b"data: 1\n\n") + b"zz\r\n", served="inner")
    reply = await lab.chat()
    assert b"engine_failed" in reply.body
    assert given(reply)
    lab.model.remove(lab.targets[0])
    await lab.answering(answer(late), served="inner")
    reply = await lab.chat()
    assert (reply.json()["model"], given(reply), reply[b"x-router-target"]) == ("m", True, b"m#1")


@pytest.mark.parametrize("whole", [OK, STREAM, KINDS["in chunks"]])
async def test_an_engine_cannot_speak_for_the_router(lab: Lab, whole: bytes) -> None:
    own = (
        b"X-Request-Id: engine\r\nx-request-id: engine\r\nX-Router-Model: engine\r\nx-router-target: engine\r\n"
        b"X-ROUTER-RETRIES: 7\r\nServer-Timing: engine;dur=1\r\nx-other: kept\r\n"
    )
    await lab.answering(whole.replace(b"content-type", own + b"content-type"))
    for _ in range(3):
        reply = await lab.chat()
        assert given(reply)
        assert timing(reply)
        assert (reply[b"x-router-model"], reply[b"x-router-target"]) == (b"m", b"m#0")
        assert (reply[b"x-router-retries"], reply[b"x-other"]) == (None, b"kept")


# A client's own id


@pytest.mark.parametrize(
    "own", [b"a", b"0", b"x" * 128, b"8b0e1c8a-7a5e-4d0e-9d43-2f0f3a0e7c55", b"!\"#$%&'()*+,/:;<=>?@~"]
)
async def test_a_clients_own_id_is_kept_on_its_way_there_and_back(lab: Lab, own: bytes) -> None:
    engine = await lab.answering(OK)
    wire = await lab.client()
    for _ in range(3):
        await wire.send(post(BODY, extra=b"X-Request-ID: %b\r\n" % own))
        assert (await wire.response())[b"x-request-id"] == own
    assert [request[b"x-request-id"] for request in engine.requests] == [own] * 3
    assert {record.id.encode() for record in lab.records} == {own}


@pytest.mark.parametrize(
    "odd",
    [b"", b" ", b"x" * 129, b"x" * 60_000, b"a b", b"a\tb", b"\xfc", "ü".encode(), b"\x80", b"\xff" * 128, b"a\xa0b",
     b"a\x85x-evil: 1", b"a\xe2\x80\xa8x-evil: 1"],
)  # fmt: skip
async def test_an_id_that_is_no_visible_ascii_or_too_long_is_not_told_again(lab: Lab, odd: bytes) -> None:
    await lab.answering(OK)
    reply = await lab.chat(extra=b"x-request-id: " + odd + b"\r\n")
    assert (reply.status, given(reply)) == (200, True)
    assert b"evil" not in b"".join(b"".join(header) for header in reply.headers)


@pytest.mark.parametrize(
    "evil",
    [b"a\rx-evil: 1", b"a\nx-evil: 1", b"a\r\n x-evil: 1", b"a\r\n\tx-evil: 1", b"a\n x-evil: 1", b"a\r\r\nx-evil: 1",
     b"a\x00x-evil: 1", b"a\x7fx-evil: 1", b"a%0d%0ax-evil: 1", b"a\x0bx-evil: 1",
     b"a\r\n\r\nHTTP/1.1 200 OK\r\nx-evil: 1"],
)  # fmt: skip
@pytest.mark.parametrize("warm", [False, True])
async def test_no_header_can_be_slipped_in_by_an_id(lab: Lab, evil: bytes, warm: bool) -> None:
    """However its line is read: no answer has a header that the client made up, and no id is anything but visible."""
    await lab.answering(OK)
    wire = await lab.client()
    if warm:
        for _ in range(3):
            await wire.send(post(BODY))
            await wire.response()
    before = len(wire.received)
    await wire.send(post(BODY, extra=b"x-request-id: " + evil + b"\r\n"))
    reply = await wire.response()
    assert reply.status in (200, 400)
    assert reply[b"x-evil"] is None
    assert b"x-evil" not in reply.body
    for line in bytes(wire.received[before:]).partition(b"\r\n\r\n")[0].split(b"\r\n"):
        assert not line.lower().startswith(b"x-evil")
        assert re.fullmatch(rb"[ -~]+", line)


def test_names_that_no_header_can_hold_are_percent_encoded() -> None:
    lines = signature("modèle/8b:q4@x+y", "modèle#1")
    assert lines == b"x-router-model: mod%C3%A8le/8b:q4@x+y\r\nx-router-target: mod%C3%A8le#1\r\n"
    assert signature("a\r\nx-evil: 1", "").count(b"\r\n") == 1


async def test_a_model_whose_name_is_not_ascii_can_be_asked(lab: Lab) -> None:
    engine = await lab.answering(OK)
    model = Model("modèle", kind="chat", engine="test", limits=lab.limits)
    paths = {"/v1/chat/completions": "/v1/chat/completions"}
    target = Target("modèle#0", Address("127.0.0.1", engine.port), served="m", paths=paths)
    model.add(target)
    lab.catalog.replace([lab.model, model])
    reply = await lab.chat('{"model":"modèle"}'.encode())
    model.remove(target)
    assert (reply.status, reply[b"x-router-model"]) == (200, b"mod%C3%A8le")
    assert reply.json()["model"] == "modèle"

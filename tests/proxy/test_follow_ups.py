"""What is asked for again by its id goes to the engine that made it."""

import pytest
from lab import END, OK, SSE, Lab, Message, answer, chunk, post

from router.proxy.owners import MOST, Owner, Owners

pytestmark = pytest.mark.anyio
GONE = answer(b'{"error":{"message":"no such response"}}', status=b"404 Not Found")


def response(of: str) -> bytes:
    return answer(b'{"id":"%b","object":"response","model":"m","output":[{"id":"msg_1"}]}' % of.encode())


async def get(lab: Lab, id: str, more: str = "", method: str = "GET") -> Message:  # noqa: A002
    head = f"{method} /v1/responses/{id}{more} HTTP/1.1\r\nhost: r\r\n\r\n"
    return await lab.ask(head.encode())


async def create(lab: Lab, body: bytes = b'{"model":"m"}') -> Message:
    return await lab.ask(post(body, b"/v1/responses"))


async def test_the_replica_that_answered_is_asked_again(lab: Lab) -> None:
    one = await lab.answering(response("resp_1"), OK, OK, OK, limit=1)
    two = await lab.answering(response("resp_2"), OK, OK, OK)
    ids = [(await create(lab)).json()["id"] for _ in range(2)]
    assert sorted(ids) == ["resp_1", "resp_2"]
    for id, engine in (("resp_2", two), ("resp_1", one)):  # noqa: A001
        assert (await get(lab, id)).status == 200
        assert (await get(lab, id, "/input_items?limit=3")).status == 200
        assert (await get(lab, id, "/cancel", "POST")).status == 200
        assert (await get(lab, id, method="DELETE")).status == 200
        assert [seen.start.split()[0] for seen in engine.requests[1:]] == [b"GET", b"GET", b"POST", b"DELETE"]
        assert engine.requests[2].target == f"/v1/responses/{id}/input_items?limit=3".encode()
    record = lab.records[-1]
    assert (record.path, record.method, record.model, record.status) == ("/v1/responses/{id}", "DELETE", "m", 200)


@pytest.mark.parametrize("cut", [True, False])
async def test_a_streams_id_is_remembered_too(lab: Lab, cut: bool) -> None:
    first = (
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_9","object":"response"}}\n\n'
    )
    parts = (chunk(first[:60]) + chunk(first[60:])) if cut else chunk(first)
    one = await lab.answering(SSE + chunk(first) + END, OK)
    two = await lab.answering(SSE + parts + END, OK)
    await create(lab, b'{"model":"m","stream":true}')
    owner = one if one.requests else two
    assert (await get(lab, "resp_9")).status == 200
    assert len(owner.requests) == 2


async def test_an_answer_goes_on_where_the_one_before_it_was_made(lab: Lab) -> None:
    one = await lab.answering(response("resp_1"))
    two = await lab.answering(response("resp_2"))
    first = (await create(lab)).json()["id"]
    owner = one if first == "resp_1" else two
    for _ in range(4):
        await create(lab, b'{"model":"m","previous_response_id":"%b"}' % first.encode())
    assert len(owner.requests) == 5
    assert (await create(lab, b'{"model":"m","previous_response_id":"nobody"}')).status == 200


@pytest.mark.parametrize(("remembered", "shown"), [(True, "alias"), (False, "m")])
async def test_the_engine_gets_no_body_and_the_client_the_name_it_knows(lab: Lab, remembered: bool, shown: str) -> None:
    engine = await lab.answering(answer(b'{"id":"resp_1","model":"Org/M"}'), served="Org/M")
    if remembered:
        assert (await create(lab, b'{"model":"alias"}')).json()["model"] == "alias"
    for method, more in (("GET", ""), ("GET", "/input_items"), ("DELETE", ""), ("POST", "/cancel")):
        assert (await get(lab, "resp_1", more, method)).json() == {"id": "resp_1", "model": shown}
    seen = engine.requests[-4:]
    assert [(one.body, one[b"content-length"]) for one in seen] == [(b"", None)] * 3 + [(b"", b"0")]


async def test_an_id_that_nobody_remembers_is_looked_for(lab: Lab) -> None:
    """As after a start of the router, whose engines may still have it."""
    one, two = await lab.answering(GONE), await lab.answering(OK)
    assert (await get(lab, "resp_7")).status == 200
    assert [len(one.requests), len(two.requests)] in ([1, 1], [0, 1])


async def test_an_id_that_no_engine_knows_is_404(lab: Lab) -> None:
    one, two = await lab.answering(GONE), await lab.answering(GONE)
    reply = await get(lab, "resp_7")
    assert (reply.status, reply.json()["error"]["message"]) == (404, "no such response")
    assert [len(one.requests), len(two.requests)] == [1, 1]


async def test_without_an_engine_that_could_it_is_404(lab: Lab) -> None:
    lab.model.paths = frozenset({"/v1/chat/completions"})
    await lab.answering(OK)
    reply = await get(lab, "resp_7")
    assert (reply.status, reply.code) == (404, "not_found")


async def test_a_model_may_be_named_in_the_query(lab: Lab) -> None:
    other = lab.declare("b")
    one, two = await lab.answering(OK), await lab.answering(OK, of=other)
    assert (await get(lab, "resp_7", "?model=b")).status == 200
    assert (len(one.requests), len(two.requests)) == (0, 1)
    assert (await get(lab, "resp_7", "?model=nobody")).code == "model_not_found"


async def test_where_the_owner_has_gone_it_is_said(lab: Lab) -> None:
    await lab.answering(response("resp_1"))
    await create(lab)
    lab.model.open_circuit(lab.targets[0])
    reply = await get(lab, "resp_1")
    assert (reply.status, reply.code) == (503, "model_not_ready")
    lab.model.remove(lab.targets[0])
    assert (await get(lab, "resp_1")).status == 404


async def test_an_engine_that_dies_is_not_stood_in_for(lab: Lab) -> None:
    await lab.answering(response("resp_1"))
    await create(lab)
    lab.engines[0].refuse()
    for wire in lab.engines[0].wires:
        wire.reset()
    other = await lab.answering(OK)
    assert (await get(lab, "resp_1")).code == "engine_failed"
    assert not other.requests


def test_the_oldest_ids_are_forgotten() -> None:
    owners = Owners()
    for number in range(MOST + 5):
        owners.learn(b'{"id":"r%d"}' % number, Owner("m", "m#0", "alias"))
    assert owners.of("r4") is None
    assert owners.of("r5") == ("m", "m#0", "alias")


async def test_an_engine_that_keeps_nothing_is_501(lab: Lab) -> None:
    """By the id of an answer it gave."""
    await lab.answering(response("resp_1"))
    await create(lab)
    lab.model.paths = frozenset({"/v1/responses"})
    reply = await get(lab, "resp_1")
    assert (reply.status, reply.code) == (501, "not_supported_by_model")


@pytest.mark.parametrize("status", [b"404 Not Found", b"405 Not Allowed", b"501 Not Implemented"])
async def test_a_server_that_has_nothing_of_the_kind_is_passed_over(lab: Lab, status: bytes) -> None:
    await lab.answering(answer(b"{}", status=status))
    await lab.answering(OK)
    for _ in range(2):
        assert (await get(lab, "resp_7")).status == 200

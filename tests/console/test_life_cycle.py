"""Who may launch and terminate models, and which."""

import asyncio
import hashlib
import json

import pytest
from desk import Desk, request
from proxy.lab import until

from router.config.specs import KeySpec

pytestmark = pytest.mark.anyio

JSON = "content-type: application/json"


def key(name: str, *, admin: bool = False) -> KeySpec:
    return KeySpec(name, hashlib.sha256(name.encode()).digest(), admin)


def launch(*lines: str, host: str = "127.0.0.1:8000", query: str = "?wait_ready=false", **body: object) -> bytes:
    return request("POST", f"/v1/models{query}", *lines, body=json.dumps(body).encode(), host=host)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "10.0.0.5", "LOCALHOST"])
async def test_without_keys_a_program_on_this_machine_may(desk: Desk, host: str) -> None:
    desk.house.states = {"chat": "stopped"}
    reply = await desk.ask(launch(JSON, host=host, model_name="chat"))
    assert (reply.status, reply.json()) == (200, {"model_uid": "chat"})
    assert (await desk.ask(request("DELETE", "/v1/models/chat", host=host))).status == 200
    assert desk.house.asked == [("start", "chat"), ("stop", "chat")]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example", ""])
async def test_a_web_page_that_leads_its_own_name_here_may_not(desk: Desk, host: str) -> None:
    desk.house.states = {"chat": "ready"}
    for asked in (launch(JSON, host=host, model_name="chat"), request("DELETE", "/v1/models/chat", host=host)):
        reply = await desk.ask(asked)
        assert (reply.status, reply.code) == (403, "permission_denied")
    assert desk.house.asked == []


@pytest.mark.parametrize(
    "line", ["x-forwarded-for: 10.0.0.1", "x-forwarded-proto: https", "via: 1.1 proxy", "forwarded: for=10.0.0.1"]
)
async def test_what_a_proxy_on_this_machine_passes_on_is_not_from_this_machine(desk: Desk, line: str) -> None:
    desk.house.states = {"chat": "ready"}
    assert (await desk.ask(request("DELETE", "/v1/models/chat", line))).code == "permission_denied"
    assert desk.house.asked == []


async def test_nginx_passes_on_what_is_from_elsewhere_without_a_word(desk: Desk) -> None:
    """As it does without `proxy_set_header` and `proxy_http_version`."""
    desk.house.states = {"chat": "ready"}
    asked = request("DELETE", "/v1/models/chat", "connection: close", host="127.0.0.1:8000")
    assert (await desk.ask(asked.replace(b"HTTP/1.1", b"HTTP/1.0"))).code == "permission_denied"
    assert desk.house.asked == []


@pytest.mark.parametrize(
    "line", ["content-type: text/plain", "content-type: application/x-www-form-urlencoded", "a: b"]
)
async def test_what_a_page_may_send_without_asking_first_is_no_launch(desk: Desk, line: str) -> None:
    assert (await desk.ask(launch(line, model_name="chat"))).code == "unsupported_media_type"
    assert desk.house.asked == []


async def test_with_keys_only_an_admin_may_and_from_anywhere(desk: Desk) -> None:
    desk.house.states = {"chat": "stopped"}
    desk.declare([key("boss", admin=True), key("user")])
    for who, status in (("boss", 200), ("user", 403), ("nobody", 401)):
        bearer = f"authorization: Bearer {who}"
        assert (await desk.ask(launch(JSON, bearer, host="models.example", model_uid="chat"))).status == status
        assert (await desk.ask(request("DELETE", "/v1/models/chat", bearer))).status == status
    assert desk.house.asked == [("start", "chat"), ("stop", "chat")]


async def test_on_one_connection_each_key_counts_for_its_own_request(desk: Desk) -> None:
    desk.house.states = {"chat": "stopped"}
    desk.declare([key("boss", admin=True), key("user")])
    wire = await desk.client()
    statuses = []
    for who in ("boss", "user", "boss", "user"):
        await wire.send(request("DELETE", "/v1/models/chat", f"authorization: Bearer {who}"))
        statuses.append((await wire.response()).status)
    assert statuses == [200, 403, 200, 403]


async def test_whether_there_are_keys_is_told_without_one(desk: Desk) -> None:
    assert (await desk.ask(request("GET", "/v1/cluster/auth"))).json() == {"auth": False}
    desk.declare([key("user")])
    for path in ("/v1/cluster/auth", "/v1/v1/cluster/auth"):
        assert (await desk.ask(request("GET", path))).json() == {"auth": True}
    assert (await desk.ask(request("GET", "/v1/cluster/info"))).status == 401


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (b'{"model_name": "qwen3"}', 404, "model_not_found", "Only models that the router's file declares"),
        (b'{"model_uid": "mine", "model_name": "chat"}', 404, "model_not_found", "'mine'"),
        (b'{"model_name": "any"}', 400, "invalid_request", "name one of chat, m"),
        (b'{"model_name": "m"}', 400, "invalid_request", "served elsewhere"),
        (b'{"model_type": "LLM"}', 400, "missing_model", "`model_uid`"),
        (b'{"model_name": 5}', 400, "invalid_request", "cannot be read"),
        (b"{", 400, "invalid_json", "is not JSON"),
    ],
)
async def test_a_launch_that_cannot_be_is_refused_in_words(
    desk: Desk, body: bytes, status: int, code: str, words: str
) -> None:
    desk.house.states = {"chat": "ready"}
    reply = await desk.ask(request("POST", "/v1/models", JSON, body=body))
    assert (reply.status, reply.code) == (status, code)
    assert words in reply.json()["detail"]


async def test_a_launch_is_answered_once_the_model_serves(desk: Desk) -> None:
    desk.house.states = {"m": "starting"}
    wire = await desk.send(launch(JSON, query="", model_name="m"))
    await until(lambda: desk.house.asked)
    answer = asyncio.ensure_future(wire.response())
    await asyncio.wait((answer,), timeout=0.3)
    assert not answer.done()
    await desk.engine()
    assert (await answer).json() == {"model_uid": "m"}


async def test_a_launch_whose_engine_fails_says_why(desk: Desk) -> None:
    desk.house.states = {"m": "failed"}
    desk.model.outlook = "its engine failed (a cause) and is started again"
    reply = await desk.ask(launch(JSON, query="", model_name="alias"))
    assert (reply.status, reply.code) == (503, "model_not_ready")
    assert "a cause" in reply.json()["detail"]


async def test_who_leaves_is_not_waited_for(desk: Desk) -> None:
    desk.house.states = {"m": "starting"}
    wire = await desk.send(launch(JSON, query="", model_name="m"))
    await until(lambda: desk.house.asked)
    wire.reset()
    await until(lambda: not desk.server.server_state.tasks)

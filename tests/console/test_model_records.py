"""What the list of models says, to each kind of client."""

import asyncio
import json
import threading
from collections.abc import Sequence

import pytest
from desk import KINDS, Desk, request
from starlette.requests import Request

from router.catalog import Group, Manner
from router.console import cluster
from router.console.cluster import Cluster
from router.console.records import Records
from router.fleet.facts import Facts
from router.fleet.inventory import Gpu

pytestmark = pytest.mark.anyio


async def one(desk: Desk, name: str, *lines: str) -> dict[str, object]:
    found = (await desk.ask(request("GET", f"/v1/models/{name}", *lines))).json()
    assert isinstance(found, dict)
    return found


async def listed(desk: Desk, query: str) -> list[str]:
    return [each["id"] for each in (await desk.ask(request("GET", f"/v1/models?{query}"))).json()["data"]]


@pytest.mark.parametrize(
    ("kind", "model_type", "abilities"),
    [
        ("chat", "LLM", ["chat"]),
        ("embedding", "embedding", ["embed"]),
        ("rerank", "rerank", ["rerank"]),
        ("transcription", "audio", ["audio2text"]),
        ("speech", "audio", ["text2audio"]),
        ("image", "image", ["text2image", "image2image", "inpainting"]),
        ("video", "video", ["text2video"]),
    ],
)
async def test_a_record_has_what_xinferences_clients_cannot_do_without(
    desk: Desk, kind: str, model_type: str, abilities: list[str]
) -> None:
    found = await one(desk, kind)
    wanted = {"model_type": model_type, "model_ability": abilities, "model_name": kind, "model_format": "pytorch"}
    assert {field: found[field] for field in wanted} == wanted
    assert None not in found.values()  # Dify's `record.get("context_length", 2048)` has no default for null


async def test_all_that_is_known_is_told(desk: Desk) -> None:
    desk.house.known["chat"] = Facts(
        format="awq",
        family="qwen3",
        quantization="awq",
        context=32768,
        tools=True,
        vision=True,
        reasoning=True,
        replicas=2,
    )
    found = await one(desk, "chat")
    assert found["model_ability"] == ["chat", "tools", "vision", "reasoning"]
    assert (found["context_length"], found["max_model_len"], found["max_tokens"]) == (32768, 32768, 32768)
    assert (found["model_format"], found["model_family"], found["replica"]) == ("awq", "qwen3", 2)
    desk.house.known["embedding"] = Facts(dimensions=1024, context=8192)
    found = await one(desk, "embedding")
    assert (found["dimensions"], found["max_tokens"]) == (1024, 8192)


async def test_a_model_without_a_chat_template_generates_and_does_not_chat(desk: Desk) -> None:
    desk.house.known["chat"] = Facts(chats=False)
    assert (await one(desk, "chat"))["model_ability"] == ["generate"]


async def test_the_file_has_the_last_word(desk: Desk) -> None:
    desk.house.known["told"] = Facts(context=4096)
    desk.catalog.replace(
        [desk.model, desk.named("told", context_length=2048, model_ability=["chat", "tools"], note="x")]
    )
    found = await one(desk, "told")
    assert (found["context_length"], found["model_ability"], found["note"]) == (2048, ["chat", "tools"], "x")


async def test_a_context_that_the_file_tells_holds_in_every_clients_words(desk: Desk) -> None:
    for name in ("told", "chat", "m"):
        desk.house.known[name] = Facts(context=4096)
    group = Group("some", kind="chat", members=[("chat", 1)], manner=Manner(info={"context_length": 512}))
    own = desk.named("told", context_length=2048)
    desk.catalog.replace([desk.models["chat"], own], [group])

    async def lengths(name: str) -> list[object]:
        found = await one(desk, name)
        return [found[field] for field in ("context_length", "max_model_len", "max_tokens")]

    assert await lengths("told") == [2048, 2048, 2048]
    assert await lengths("some") == [512, 512, 512]
    own.manner = Manner(info={"context_length": 2048, "max_tokens": 100})
    assert await lengths("told") == [2048, 2048, 100]


async def test_a_group_can_do_what_all_its_members_can(desk: Desk) -> None:
    desk.house.known["chat"] = Facts(context=8192, tools=True, vision=True, family="a", replicas=2)
    desk.house.known["m"] = Facts(context=4096, tools=True, family="b")
    found = await one(desk, "any")
    assert (found["id"], found["root"], found["object"], found["created"]) == ("any", "any", "model", 7)
    assert (found["context_length"], found["model_ability"], found["replica"]) == (4096, ["chat", "tools"], 3)
    assert "model_family" not in found
    desk.house.known["m"] = Facts()
    assert "context_length" not in await one(desk, "any")


async def test_the_list_can_be_narrowed(desk: Desk) -> None:
    desk.house.known["chat"] = Facts(vision=True)
    assert await listed(desk, "type=embedding") == ["embedding"]
    assert await listed(desk, "type=llm") == ["m", "alias", "chat", "any"]
    assert await listed(desk, "type=LLM&ability=vision") == ["chat"]
    assert await listed(desk, "type=embedding,rerank") == await listed(desk, "type=embedding&type=rerank")
    assert await listed(desk, "type=speech") == ["speech"]
    assert await listed(desk, "type=audio") == ["transcription", "speech"]
    assert await listed(desk, "type=none") == []


async def test_anthropics_clients_are_answered_in_their_shape_too(desk: Desk) -> None:
    header = "anthropic-version: 2023-06-01"
    body = (await desk.ask(request("GET", "/v1/models", header))).json()
    names = ["m", "alias", *KINDS, "any"]
    assert (body["first_id"], body["last_id"], body["has_more"]) == ("m", "any", False)
    assert [each["id"] for each in body["data"]] == names
    found = await one(desk, "chat", header)
    assert (found["type"], found["display_name"], found["created_at"]) == ("model", "chat", "2023-11-14T22:13:20Z")
    assert "type" not in await one(desk, "chat")
    empty = (await desk.ask(request("GET", "/v1/models?type=none", header))).json()
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)


async def test_dify_sees_the_models_as_what_they_are(desk: Desk) -> None:
    """As `models/xinference_helper.py` of its plugin reads a record."""
    desk.house.known["chat"] = Facts(context=32768, tools=True)

    async def handle_type(name: str) -> str:
        found = await one(desk, name)
        ability = found.get("model_ability", [])
        assert isinstance(ability, list)
        assert found.get("model_format", "ggmlv3") != "ggmlv3"
        if found.get("model_type") == "embedding":
            return "embedding"
        if found.get("model_type") == "audio":
            tts = any(word in ["text2audio", "text-to-audio"] for word in ability)
            return "text-to-audio" if tts else "audio-to-text"
        return "generate" if "generate" in ability else "chat" if "chat" in ability else "none"

    names = ("chat", "embedding", "transcription", "speech")
    assert [await handle_type(name) for name in names] == ["chat", "embedding", "audio-to-text", "text-to-audio"]
    found = await one(desk, "chat")
    assert "tools" in found["model_ability"]
    assert found.get("context_length", 2048) == 32768


async def test_what_xinference_says_of_a_cluster_is_said(desk: Desk) -> None:
    desk.house.states = {"chat": "ready", "rerank": "failed", "embedding": "starting"}

    async def get(path: str) -> object:
        reply = await desk.ask(request("GET", path))
        assert reply.status == 200, path
        return reply.json()

    status = await get("/status")
    assert isinstance(status, dict)
    assert status["workers"]["127.0.0.1"]["status"]["cpu"]["total"] >= 1
    info = await get("/v1/cluster/info?detailed=true")
    assert isinstance(info, list)
    assert [(node["node_type"], node["mem_total"] > 0) for node in info] == [("Supervisor", True), ("Worker", True)]
    assert set(await get("/v1/cluster/version")) == {"version", "full-revisionid"}
    assert await get("/v1/model_registrations/audio") == [
        {"model_name": "transcription", "is_builtin": False},
        {"model_name": "speech", "is_builtin": False},
    ]
    (replica,) = await get("/v1/models/rerank/replicas")
    assert (replica["status"], replica["error_message"]) == ("ERROR", "its engine failed; `router ps` says more")
    (event,) = await get("/v1/models/chat/events")
    assert (event["event_type"], event["event_content"]) == ("INFO", "replica 0 is ready")
    (instance,) = await get("/v1/models/instances?model_uid=embedding")
    assert (instance["model_uid"], instance["status"]) == ("embedding", "LOADING")
    progress = [await get(f"/v1/models/{name}/progress") for name in desk.house.states]
    assert [(each["progress"], each["stage"]) for each in progress] == [
        (1.0, "ready"), (0.0, "error"), (0.5, "loading"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/model_registrations/flexible", 400, "invalid_request"),
        ("GET", "/v1/model_registrations/LLM/none", 404, "model_not_found"),
        ("GET", "/v1/model_registrations/LLM/rerank", 404, "not_found"),
        ("GET", "/v1/models/none/progress", 404, "model_not_found"),
        ("POST", "/v1/models/chat/requests/1/abort", 501, "not_supported_by_model"),
        ("POST", "/v1/models/chat/cancel", 501, "not_supported_by_model"),
        ("PUT", "/v1/models/chat", 405, "method_not_allowed"),
    ],
)
async def test_what_there_is_not_is_said_in_words(desk: Desk, method: str, path: str, status: int, code: str) -> None:
    reply = await desk.ask(request(method, path))
    assert (reply.status, reply.code) == (status, code)


async def test_a_driver_that_hangs_holds_nobody_up_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0.05)
    asked, answer = list[int](), threading.Event()

    def gpus() -> Sequence[Gpu]:
        asked.append(1)
        answer.wait(30)
        return [Gpu(0, "GPU-0", "a card", 8, 2)]

    desk = Desk()
    one = Cluster(desk.catalog, desk.house, Records(desk.catalog, desk.house.facts), gpus)

    async def seen() -> set[str]:
        reply = await one.status(Request({"type": "http"}))
        return set(json.loads(reply.body)["workers"]["127.0.0.1"]["status"])

    assert await asyncio.gather(*(seen() for _ in range(50))) == [{"cpu"}] * 50
    assert len(asked) == 1
    answer.set()
    async with asyncio.timeout(10):
        while await seen() != {"cpu", "gpu-0"}:
            pass

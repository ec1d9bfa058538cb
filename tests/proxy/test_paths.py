"""Which paths lead to an engine: those of the table, and no spelling of any other."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import asyncio

import msgspec
import pytest
from lab import OK, Lab, post

from router.catalog import Address, Target
from router.proxy.paths import PATHS

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
FORM = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--B--\r\n'


def request(public: str, path: bytes = b"") -> bytes:
    if PATHS[public].form:
        return post(FORM, path or public.encode(), kind=b"multipart/form-data; boundary=B")
    return post(BODY, path or public.encode())


@pytest.mark.parametrize("public", PATHS)
async def test_each_path_of_the_table_leads_to_the_engines_own(lab: Lab, public: str) -> None:
    engine = await lab.answering(OK, paths={public: "/own" + public})
    assert (await lab.ask(request(public))).status == 200
    assert engine.requests[0].start == b"POST /own%b HTTP/1.1" % public.encode()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"])
async def test_only_post_asks_an_engine(lab: Lab, method: str) -> None:
    engine = await lab.answering(OK)
    wire = await lab.send(post(BODY).replace(b"POST", method.encode(), 1))
    head = await wire.head()
    assert (head.status, head[b"allow"]) == (405, b"POST")
    assert not engine.wires


CONTROL = [
    "/sleep",
    "/wake_up",
    "/collective_rpc",
    "/v1/load_lora_adapter",
    "/slots/0",
    "/props",
    "/reset_prefix_cache",
]


@pytest.mark.parametrize(
    "path", [*CONTROL, "/v1/chat", "/v1/chat/completions/x", "/v1", "/", "/v1/engines/m/embeddings", "/infill"]
)
async def test_what_is_not_in_the_table_is_not_found(lab: Lab, path: str) -> None:
    engine = await lab.answering(OK)
    reply = await lab.ask(post(BODY, path.encode()))
    assert (reply.status, reply.code) == (404, "not_found")
    assert not engine.wires


@pytest.mark.parametrize(
    "path",
    [
        b"//sleep", b"/%73leep", b"/v1/../sleep", b"/v1/chat/completions/../../../sleep", b"/v1/%2e%2e/sleep",
        b"/v1/chat/completions%2f..%2f..%2fsleep", b"/SLEEP", b"/sleep/", b"/./sleep", b"/v1//sleep", b"http://router/sleep",
        b"HTTP://127.0.0.1/sleep", b"/v1/chat/completions%00", b"/v1/chat/completions%00/sleep", b"/v1/chat/completions/",
        b"//v1/chat/completions", b"/v1//chat/completions", b"/v1/Chat/completions", b"/v1/chat/completions;a=b",
        b"/v1/chat/completions%0d%0aX: y", b"/v1/chat/completions%20", b"/v1/chat\\completions", b"/v1/chat/completions%3f",
        b"/%c0%ae%c0%ae/sleep", b"/\xff\xfe", b"/health/", b"/sleep?/v1/chat/completions", b"/%2573leep",
    ],
)  # fmt: skip
async def test_no_other_spelling_leads_to_an_engine(lab: Lab, path: bytes) -> None:
    engine = await lab.answering(OK)
    reply = await lab.ask(post(BODY, path))
    assert reply.status in (404, 400)
    assert reply.code in ("not_found", "invalid_http")
    assert not engine.wires


@pytest.mark.parametrize(
    "path", [b"/v1/chat%2Fcompletions", b"/%76%31/chat/completions", b"http://else/v1/chat/completions#x"]
)
async def test_another_spelling_of_a_path_of_the_table_is_that_path(lab: Lab, path: bytes) -> None:
    engine = await lab.answering(OK)
    assert (await lab.ask(post(BODY, path))).status == 200
    assert engine.requests[0].target == b"/v1/chat/completions"


@pytest.mark.parametrize(
    "start", [b"CONNECT x:443", b"OPTIONS *", b"POST *", b"POST http://", b"GET v1/models", b"FOO /", b"POST http://[/"]
)
async def test_odd_request_targets_get_a_clear_answer(lab: Lab, start: bytes) -> None:
    engine = await lab.answering(OK)
    wire = await lab.send(start + b" HTTP/1.1\r\nhost: [\r\ncontent-length: 0\r\n\r\n")
    reply = await wire.response()
    assert (reply.status, reply.code) in [(400, "invalid_http"), (404, "not_found")]
    assert not engine.wires


async def test_a_bad_host_header_hurts_nobody(lab: Lab) -> None:
    await lab.answering(OK)
    for path, status in ((b"/v1/chat/completions", 200), (b"/nowhere", 404), (b"/v1/models", 405)):
        assert (await lab.ask(post(BODY, path).replace(b"host: router", b"host: [//"))).status == status


async def test_what_the_model_does_not_serve_is_501(lab: Lab) -> None:
    engine = await lab.answering(OK)
    lab.model.paths = frozenset({"/v1/embeddings", "/v1/rerank"})
    reply = await lab.chat()
    assert (reply.status, reply.code) == (501, "not_supported_by_model")
    assert "it serves /v1/embeddings, /v1/rerank" in reply.json()["detail"]
    assert not engine.wires


async def test_an_unknown_model_is_404_with_the_nearest_names(lab: Lab) -> None:
    engine = await lab.answering(OK)
    lab.catalog._names |= {"qwen3-8b": lab.model, "bge-m3": lab.model}
    for name in ("qwen-8b", "x" * 100_000, "\x00\n", "qwen3-8B"):
        reply = await lab.ask(post(b'{"model":%b}' % msgspec.json.encode(name)))
        assert (reply.status, reply.code) == (404, "model_not_found")
    assert "Nearest: qwen3-8b" in reply.json()["detail"]
    assert not engine.wires


async def test_naming_the_nearest_of_many_models_holds_nobody_up(lab: Lab) -> None:
    lab.catalog._names |= {f"organisation/some-model-{n}-instruct": lab.model for n in range(5000)}
    began = asyncio.get_running_loop().time()
    reply = await lab.chat(b'{"model":"organisation/some-nodel-77-instruct"}')
    assert "organisation/some-model-77-instruct" in reply.json()["detail"]
    assert asyncio.get_running_loop().time() - began < 0.2


@pytest.mark.parametrize(
    ("prefix", "public", "path"),
    [
        ("/v1", "/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1", "/v1/embeddings", "/api/v1/embeddings"),
        ("/v1beta/openai", "/v1/chat/completions", "/v1beta/openai/chat/completions"),
        ("", "/v1/chat/completions", "/chat/completions"),
        ("/v1", "/rerank", "/v1/rerank"),
        ("/v1", "/v2/rerank", "/v2/rerank"),
        ("/api/v1", "/tokenize", "/api/tokenize"),
        ("/v1beta/openai", "/detokenize", "/v1beta/openai/detokenize"),
    ],
)
async def test_a_server_elsewhere_is_asked_below_its_base_address(
    lab: Lab, prefix: str, public: str, path: str
) -> None:
    engine = await lab.answering(OK)
    lab.model.remove(lab.targets[0])
    lab.targets.append(Target("remote", Address("127.0.0.1", engine.port, prefix=prefix), served="m"))
    lab.model.add(lab.targets[-1])
    assert (await lab.ask(request(public))).status == 200
    assert engine.requests[0].target == path.encode()


async def test_a_forgotten_v1_is_hinted_at(lab: Lab) -> None:
    reply = await lab.ask(b"POST /chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    assert reply.status == 404
    assert b"did you mean /v1/chat/completions?" in reply.body

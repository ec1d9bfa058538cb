"""Which paths lead to an engine: those of the table, and no spelling of any other."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import asyncio

import msgspec
import pytest
from lab import OK, Lab, answer, post

from router.catalog import Address, Group, Model, Target
from router.proxy.paths import PATHS, Path

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
FORM = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--B--\r\n'


ANSWERS = {
    "/v1/rerank": b'{"results":[{"index":0,"relevance_score":0.5}]}',
    "/v2/rerank": b'{"results":[{"index":0,"relevance_score":0.5}]}',
}
PLAIN = [path.public for path in PATHS.values() if path.body in ("json", "form", "either")]
FOLLOW_UPS = [path for path in PATHS.values() if path.body == "none"]


def request(public: str, path: bytes = b"", model: bytes = BODY) -> bytes:
    if PATHS[public].body in ("form", "either"):
        return post(FORM, path or public.encode(), kind=b"multipart/form-data; boundary=B")
    if public.endswith("/rerank"):
        model = model[:-1] + b',"query":"q","documents":["d"]}'
    return post(model, path or public.encode())


def answer_of(public: str) -> bytes:
    return answer(ANSWERS[public]) if public in ANSWERS else OK


@pytest.mark.parametrize("public", PLAIN)
async def test_each_path_of_the_table_leads_to_the_engines_own(lab: Lab, public: str) -> None:
    engine = await lab.answering(answer_of(public), paths={public: "/own" + public})
    assert (await lab.ask(request(public))).status == 200
    assert engine.requests[0].start == b"POST /own%b HTTP/1.1" % public.encode()


@pytest.mark.parametrize("public", PLAIN)
async def test_each_path_is_found_as_clients_spell_it(lab: Lab, public: str) -> None:
    """Without `/v1`, with it twice, with the model in it, which OpenAI and Azure once did."""
    short = public.removeprefix("/v1")
    spellings = [short, f"{public}/", f"/v1{short}", f"/v1/v1{short}", f"/v1/engines/m{short}", f"/engines/m{short}"]
    spellings += [f"/openai/deployments/m{short}?api-version=1"]
    if "messages" in public:
        spellings += [f"/anthropic/v1{short}", f"/anthropic{short}", f"/anthropic/v1/v1{short}"]
    engine = await lab.answering(*[answer_of(public)] * len(spellings), paths={public: "/own"})
    for spelling in spellings:
        assert (await lab.ask(request(public, spelling.encode()))).status == 200, spelling
    assert {seen.target.partition(b"?")[0] for seen in engine.requests} == {b"/own"}


@pytest.mark.parametrize("public", [path.public for path in PATHS.values() if path.body == "either"])
async def test_some_take_json_as_well_as_a_form(lab: Lab, public: str) -> None:
    engine = await lab.answering(OK, served="inner")
    assert (await lab.ask(post(BODY, public.encode()))).status == 200
    assert engine.requests[0].body == b'{"model":"inner"}'


@pytest.mark.parametrize("spelling", [b"/rerank", b"/reranking", b"/v1/reranking"])
async def test_rerank_has_more_names(lab: Lab, spelling: bytes) -> None:
    engine = await lab.answering(answer_of("/v1/rerank"))
    assert (await lab.ask(request("/v1/rerank", spelling))).status == 200
    assert engine.requests[0].target == b"/v1/rerank"


@pytest.mark.parametrize("body", [b"{}", b' { "x":1}', b'{"model":null,"x":1}', b'{"x":{"model":"n"},"model":"other"}'])
async def test_the_model_in_a_path_counts(lab: Lab, body: bytes) -> None:
    """Whatever the body says of it; a name may hold slashes."""
    lab.call("org/m")
    engine = await lab.answering(OK)
    assert (await lab.ask(post(body, b"/v1/engines/org%2Fm/chat/completions"))).status == 200
    assert engine.requests[0].target == b"/v1/chat/completions"
    got = msgspec.json.decode(engine.requests[0].body)
    assert got == msgspec.json.decode(body) | {"model": "m"}


@pytest.mark.parametrize("path", FOLLOW_UPS, ids=lambda path: path.public)
async def test_what_is_asked_for_by_id_is_found_too(lab: Lab, path: Path) -> None:
    lab.model.paths = frozenset(PATHS)
    for method in path.methods:
        engine = await lab.answering(OK, paths={path.public: "/own" + path.public})
        asked = path.public.replace("{id}", "x_1-2.3")
        reply = await lab.ask(f"{method} {asked}?a=b HTTP/1.1\r\nhost: r\r\ncontent-length: 0\r\n\r\n".encode())
        assert reply.status == 200
        assert engine.requests[0].start == f"{method} /own{asked}?a=b HTTP/1.1".encode()
        lab.model.remove(lab.targets[-1])


@pytest.mark.parametrize("bad", [b"..", b".", b"a/b", b"a%2Fb", b"a%3Fb", b"%00", b"a b", b"a%0d%0aX: y", b"x" * 201])
async def test_an_id_that_is_none_leads_nowhere(lab: Lab, bad: bytes) -> None:
    engine = await lab.answering(OK)
    reply = await lab.ask(b"GET /v1/responses/%b HTTP/1.1\r\nhost: r\r\n\r\n" % bad)
    assert reply.status in (404, 400)
    assert not engine.wires


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
    "path", [*CONTROL, "/v1/chat", "/v1/chat/completions/x", "/v1", "/", "/v1/engines/m/sleep", "/v1/engines//rerank"]
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
        b"HTTP://127.0.0.1/sleep", b"/v1/chat/completions%00", b"/v1/chat/completions%00/sleep", b"/v1/chat/completions//",
        b"//v1/chat/completions", b"/v1//chat/completions", b"/v1/Chat/completions", b"/v1/chat/completions;a=b",
        b"/v1/chat/completions%0d%0aX: y", b"/v1/chat/completions%20", b"/v1/chat\\completions", b"/v1/chat/completions%3f",
        b"/v1/engines/m/../../sleep", b"/v1/engines/m%2f..%2f..%2fsleep", b"/anthropic/sleep", b"/v1/v1/v1/embeddings",
        b"/v1/engines/m/v1/realtime", b"/v1/engines/m/v1/responses/x", b"/openai/deployments/m/sleep", b"/v3/rerank",
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
    assert "no declared model does" in reply.json()["detail"]
    assert not engine.wires


async def test_a_501_says_which_models_can(lab: Lab) -> None:
    lab.model.paths = frozenset({"/v1/embeddings"})
    one = Model("one", kind="chat", engine="x", paths=["/v1/chat/completions"], limits=lab.limits)
    group = Group("all", kind="chat", members=[("one", 1)])
    lab.catalog.replace([lab.model, one, Model("two", kind="chat", engine="remote", limits=lab.limits)], [group])
    reply = await lab.chat()
    assert (reply.status, reply.code) == (501, "not_supported_by_model")
    assert reply.json()["detail"].endswith("models that do: one, two, all")
    reply = await lab.chat(b'{"model":"alias"}')
    assert "'alias' leads to model 'm' (chat, test), which does not serve" in reply.json()["detail"]
    assert reply[b"x-should-retry"] == b"false"  # the SDKs ask again after other 5xx


async def test_an_unknown_model_is_404_with_the_nearest_names(lab: Lab) -> None:
    engine = await lab.answering(OK)
    lab.call("qwen3-8b", "bge-m3")
    for name in ("qwen-8b", "x" * 100_000, "\x00\n", "qwen3-8B"):
        reply = await lab.ask(post(b'{"model":%b}' % msgspec.json.encode(name)))
        assert (reply.status, reply.code) == (404, "model_not_found")
    assert "Nearest: qwen3-8b" in reply.json()["detail"]
    assert not engine.wires


async def test_naming_the_nearest_of_many_models_holds_nobody_up(lab: Lab) -> None:
    lab.call(*(f"organisation/some-model-{n}-instruct" for n in range(5000)))
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
        ("/v1", "/v1/rerank", "/v1/rerank"),
        ("/v1", "/v2/rerank", "/v2/rerank"),
        ("/api/v1", "/tokenize", "/api/tokenize"),
        ("/v1beta/openai", "/detokenize", "/v1beta/openai/detokenize"),
    ],
)
async def test_a_server_elsewhere_is_asked_below_its_base_address(
    lab: Lab, prefix: str, public: str, path: str
) -> None:
    engine = await lab.answering(answer_of(public))
    lab.model.remove(lab.targets[0])
    lab.targets.append(Target("remote", Address("127.0.0.1", engine.port, prefix=prefix), served="m"))
    lab.model.add(lab.targets[-1])
    assert (await lab.ask(request(public))).status == 200
    assert engine.requests[0].target == path.encode()


async def test_a_path_that_is_nearly_right_is_hinted_at(lab: Lab) -> None:
    reply = await lab.ask(b"POST /chat/completion HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    assert reply.status == 404
    assert b"did you mean /v1/chat/completions?" in reply.body

"""Programs that cannot run in a test: their requests, as their sources put them together, and their way of reading."""

from typing import Any

import pytest
from e2e.real_router import RealRouter
from http_wire import Answer, ask
from matrix import Matrix
from replayed import (
    AIOHTTP,
    AXIOS,
    BEARER,
    CLAUDE_CODE,
    REQUESTS,
    axios_json,
    dify_chunks,
    form,
    named_events,
    requests_get,
    requests_json,
)
from stand_in import HEARD, SOUND, StandIn
from testbed import CHAT, EMBEDDING, ENGINES, RERANK

from demo.vocabulary import SENTENCE

DIFY = "Dify, OpenAI-API-compatible*"
DIFY_XINFERENCE = "Dify, Xinference*"
QUERY = "small engines"
DOCUMENTS = ["a lazy dog", "seven small engines", "a token"]
HEADERS_OF_ITS_USER = (
    "X-OpenWebUI-User-Name: J%C3%B6rg",
    "X-OpenWebUI-User-Id: 0b1c",
    "X-OpenWebUI-User-Email: j@example.com",
    "X-OpenWebUI-User-Role: admin",
    "X-OpenWebUI-Chat-Id: 77aa",
)
chat_models = pytest.mark.parametrize("model", CHAT)
embedding_models = pytest.mark.parametrize("model", EMBEDDING)
rerank_models = pytest.mark.parametrize("model", RERANK)


def is_said(text: str) -> None:
    words = " ".join(text.split())
    assert words
    assert words in f"{SENTENCE} {SENTENCE} {SENTENCE}"


def ranking(answer: Answer) -> list[dict[str, Any]]:
    """The results, which have to be best first."""
    assert answer.status == 200, answer.body
    results: list[dict[str, Any]] = answer.json["results"]
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    return results


@chat_models
def test_dify_saves_a_model_and_streams_from_it(router: RealRouter, matrix: Matrix, model: str) -> None:
    with matrix.cell(DIFY, "/v1/chat/completions", ENGINES[model], "save"):
        body: dict[str, Any] = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "ping"}]}
        saved = requests_json(router.port, "/v1/chat/completions", body, BEARER)
        assert (saved.status, saved.json["object"]) == (200, "chat.completion")
    with matrix.cell(DIFY, "/v1/chat/completions", ENGINES[model], "stream"):
        body |= {"stream": True, "temperature": 0, "stream_options": {"include_usage": True}, "user": "0b1c-77"}
        stream = requests_json(router.port, "/v1/chat/completions", body, "Accept-Charset: utf-8", BEARER)
        chunks = dify_chunks(stream.body)
        is_said("".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]))
        assert chunks[-1]["usage"]["completion_tokens"] == 5


@embedding_models
def test_dify_saves_an_embedding_model(router: RealRouter, matrix: Matrix, model: str) -> None:
    with matrix.cell(DIFY, "/v1/embeddings", ENGINES[model], "save"):
        answer = requests_json(router.port, "/v1/embeddings", {"input": "ping", "model": model}, BEARER)
        assert len(answer.json["data"][0]["embedding"]) == 64
        assert answer.json["usage"]["total_tokens"] > 0
    with matrix.cell(DIFY, "/v1/embeddings", ENGINES[model], "texts"):
        body = {"input": ["the quick"] * 10, "model": model, "encoding_format": "float"}
        assert len(requests_json(router.port, "/v1/embeddings", body, BEARER).json["data"]) == 10


@rerank_models
def test_dify_reranks(router: RealRouter, matrix: Matrix, model: str) -> None:
    with matrix.cell(DIFY, "/v1/rerank", ENGINES[model], "rerank"):
        body = {"model": model, "query": QUERY, "documents": DOCUMENTS, "top_n": 3}
        found = ranking(requests_json(router.port, "/v1/rerank", body, BEARER))
        assert sorted(result["index"] for result in found) == [0, 1, 2]
    with matrix.cell(DIFY, "/v1/rerank", ENGINES[model], "rerank with null"):
        body |= {"top_n": None, "return_documents": True}
        for result in ranking(requests_json(router.port, "/v1/rerank", body, BEARER)):
            document = result["document"]
            assert (document if isinstance(document, str) else document["text"]) == DOCUMENTS[result["index"]]


def test_dify_hears_and_speaks(router: RealRouter, matrix: Matrix, stand_in: StandIn) -> None:
    with matrix.cell(DIFY, "/v1/audio/transcriptions", "stand-in", "upload"):
        body, kind = form({"model": "ears"}, SOUND)
        heard = ask(router.port, "/v1/audio/transcriptions", body, *REQUESTS, kind, BEARER)
        assert heard.json["text"] == HEARD
        assert stand_in.fields[-1]["file"] == SOUND
    with matrix.cell(DIFY, "/v1/audio/speech", "stand-in", "stream"):
        say = {"model": "voice", "input": "Hello.", "voice": "alloy", "response_format": "mp3"}
        assert requests_json(router.port, "/v1/audio/speech", say, BEARER).body == SOUND
        assert stand_in.fields[-1]["model"] == "voice-of-the-stand-in"


@chat_models
def test_dify_looks_at_a_model_as_at_xinference(router: RealRouter, matrix: Matrix, model: str) -> None:
    """Before every call. Of a model without `model_format` it would take it for GGML, and want more of it."""
    with matrix.cell(DIFY_XINFERENCE, "/v1/cluster/auth", ENGINES[model], "without a key"):
        assert requests_get(router.port, "/v1/cluster/auth").json == {"auth": True}
    with matrix.cell(DIFY_XINFERENCE, "/v1/models/{uid}", ENGINES[model], "parameters"):
        record = requests_get(router.port, f"/v1/models/{model}", BEARER).json
        assert record["model_type"] == "LLM"
        assert "chat" in record["model_ability"]
        assert record["model_format"]
        assert record["context_length"] > 1000
        assert record["model_family"]


@rerank_models
def test_dify_reranks_as_with_xinference(router: RealRouter, matrix: Matrix, model: str) -> None:
    with matrix.cell(DIFY_XINFERENCE, "/v1/rerank", ENGINES[model], "rerank"):
        body = {
            "model": model, "documents": DOCUMENTS, "query": QUERY, "top_n": None, "max_chunks_per_doc": None,
            "return_documents": True, "return_len": None, "kwargs": "{}",
        }  # fmt: skip
        for result in ranking(requests_json(router.port, "/v1/rerank", body, BEARER)):
            document = result["document"]
            assert (document if isinstance(document, str) else document["text"]) == DOCUMENTS[result["index"]]
    with matrix.cell(DIFY_XINFERENCE, "/v1/rerank", ENGINES[model], "refusal"):
        refused = requests_json(router.port, "/v1/rerank", body | {"documents": 7}, BEARER)
        assert refused.status >= 400
        assert refused.json["detail"]
        assert refused.json["error"]


@embedding_models
def test_fastgpt_embeds(router: RealRouter, matrix: Matrix, model: str) -> None:
    with matrix.cell("FastGPT*", "/v1/embeddings", ENGINES[model], "texts"):
        body = {"model": model, "input": ["the quick", "brown fox"], "encoding_format": "float"}
        answer = axios_json(router.port, "/v1/embeddings", body, BEARER).json
        assert [len(item["embedding"]) for item in answer["data"]] == [64, 64]
        assert answer["usage"]["total_tokens"] > 0


@rerank_models
@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v1/v1/rerank"])
def test_fastgpt_reranks(router: RealRouter, matrix: Matrix, model: str, path: str) -> None:
    """It takes the results in the order in which they come, and reads the tokens from `meta`, where it has them."""
    with matrix.cell("FastGPT*", path, ENGINES[model], "rerank"):
        answer = axios_json(router.port, path, {"model": model, "query": QUERY, "documents": DOCUMENTS}, BEARER)
        assert sorted(result["index"] for result in ranking(answer)) == [0, 1, 2]
        assert answer.json["meta"]["tokens"]["input_tokens"] > 0


def test_fastgpt_hears(router: RealRouter, matrix: Matrix) -> None:
    with matrix.cell("FastGPT*", "/v1/audio/transcriptions", "stand-in", "upload"):
        body, kind = form({"model": "ears"}, SOUND)
        assert ask(router.port, "/v1/audio/transcriptions", body, kind, BEARER).json["text"] == HEARD


def test_ragflow_reads_types_and_contexts_from_the_list(router: RealRouter, matrix: Matrix) -> None:
    records = {record["id"]: record for record in requests_get(router.port, "/v1/models", BEARER).json["data"]}
    for types, kind in ((CHAT, "LLM"), (EMBEDDING, "embedding"), (("llamacpp-rerank", "infinity-rerank"), "rerank")):
        for model in types:
            with matrix.cell("RAGFlow*", "/v1/models", ENGINES[model], "list"):
                assert records[model]["model_type"] == kind
                assert kind != "LLM" or records[model]["context_length"] > 1000


@embedding_models
def test_ragflow_embeds_sixteen_at_once(router: RealRouter, matrix: Matrix, model: str) -> None:
    with matrix.cell("RAGFlow*", "/v1/embeddings", ENGINES[model], "batch of 16"):
        body = {"model": model, "input": [f"the quick {number}" for number in range(16)], "encoding_format": "float"}
        answer = requests_json(router.port, "/v1/embeddings", body, BEARER).json
        assert [item["index"] for item in answer["data"]] == [*range(16)]


@rerank_models
@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_ragflow_reranks_with_strings_in_place_of_truths(
    router: RealRouter, matrix: Matrix, model: str, path: str
) -> None:
    with matrix.cell("RAGFlow*", path, ENGINES[model], "rerank"):
        body = {
            "model": model, "query": QUERY, "return_documents": "true", "return_len": "true", "documents": DOCUMENTS
        }  # fmt: skip
        answer = requests_json(router.port, path, body, "accept: application/json", BEARER)
        assert len(ranking(answer)) == 3


def test_ragflow_speaks_below_two_v1s(router: RealRouter, matrix: Matrix) -> None:
    with matrix.cell("RAGFlow*", "/v1/v1/audio/speech", "stand-in", "stream"):
        say = {"model": "voice", "input": "Hello.", "voice": "", "response_format": "mp3", "speed": 1.0, "stream": True}
        assert requests_json(router.port, "/v1/v1/audio/speech", say, BEARER).body == SOUND


@chat_models
def test_n8n_lists_and_asks_for_a_response(router: RealRouter, matrix: Matrix, model: str) -> None:
    with matrix.cell("n8n*", "/models", ENGINES[model], "list"):
        listed = ask(router.port, "/models", None, *AXIOS, BEARER)
        assert model in {record["id"] for record in listed.json["data"]}
    with matrix.cell("n8n*", "/v1/responses", ENGINES[model], "create"):
        body = {
            "model": model, "max_output_tokens": 12, "temperature": 0, "stream": False,
            "input": [{"type": "message", "role": "user", "content": "Say something."}],
        }  # fmt: skip
        answer = axios_json(router.port, "/v1/responses", body, BEARER).json
        is_said("".join(part["text"] for item in answer["output"] for part in item.get("content", [])))


@chat_models
@pytest.mark.parametrize("path", ["/v1/models", "/models"])
def test_open_webui_lists(router: RealRouter, matrix: Matrix, model: str, path: str) -> None:
    with matrix.cell("Open WebUI*", path, ENGINES[model], "list"):
        listed = ask(router.port, path, None, *AIOHTTP, BEARER, *HEADERS_OF_ITS_USER)
        assert model in {record["id"] for record in listed.json["data"]}


@chat_models
def test_open_webui_streams(router: RealRouter, matrix: Matrix, model: str) -> None:
    with matrix.cell("Open WebUI*", "/v1/chat/completions", ENGINES[model], "stream"):
        body = {
            "stream": True,
            "model": model,
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 12,
            "temperature": 0,
        }
        answer = ask(router.port, "/v1/chat/completions", body, *AIOHTTP, BEARER, *HEADERS_OF_ITS_USER)
        assert answer.headers["content-type"].startswith("text/event-stream")
        is_said("".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in dify_chunks(answer.body)))


@rerank_models
def test_open_webui_reranks_by_position(router: RealRouter, matrix: Matrix, model: str) -> None:
    with matrix.cell("Open WebUI*", "/v1/rerank", ENGINES[model], "rerank"):
        body = {"model": model, "query": QUERY, "documents": DOCUMENTS, "top_n": len(DOCUMENTS)}
        answer = requests_json(router.port, "/v1/rerank", body, BEARER, *HEADERS_OF_ITS_USER)
        assert sorted(result["index"] for result in ranking(answer)) == [0, 1, 2]


@chat_models
def test_claude_code_streams_a_message(router: RealRouter, matrix: Matrix, model: str) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Say something."}]}],
        "system": [{"type": "text", "text": "You are brief.", "cache_control": {"type": "ephemeral"}}],
        "tools": [
            {
                "name": "Bash",
                "description": "Runs a command.",
                "input_schema": {
                    "$schema": "http://json-schema.org/draft-07/schema#",
                    "type": "object",
                    "properties": {"command": {"type": "string", "description": "The command"}},
                    "required": ["command"],
                    "additionalProperties": False,
                },
            }
        ],
        "metadata": {"user_id": "user_0b1c_account__session_77"},
        "max_tokens": 12,
        "temperature": 1,
        "stream": True,
    }
    with matrix.cell("Claude Code*", "/v1/messages", ENGINES[model], "stream with tools"):
        answer = send_claude(router, "/v1/messages?beta=true", body)
        events = named_events(answer.body)
        assert (events[0][0], events[-1][0]) == ("message_start", "message_stop")
        assert events[0][1]["message"]["model"] == model
        assert "".join(data["delta"].get("text", "") for name, data in events if name == "content_block_delta")
    with matrix.cell("Claude Code*", "/v1/messages/count_tokens", ENGINES[model], "count"):
        counted = {name: body[name] for name in ("model", "messages", "system", "tools")}
        assert send_claude(router, "/v1/messages/count_tokens?beta=true", counted).json["input_tokens"] > 5


def send_claude(router: RealRouter, path: str, body: dict[str, Any]) -> Answer:
    answer = ask(router.port, path, body, *(line for line in CLAUDE_CODE if not line.startswith("content-type")))
    assert answer.status == 200, answer.body
    return answer

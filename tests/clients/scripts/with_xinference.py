"""Xinference's client, as Dify's plugin for Xinference uses it."""

import json

import requests
from checks import ASK, DOCUMENTS, KEY, QUERY, ROOT, TOOL, is_ranked, is_said, is_vector, refusal, run
from xinference_client import RESTfulClient

client = RESTfulClient(ROOT, api_key=KEY)


def authenticated(_):
    answer = requests.get(f"{ROOT}/v1/cluster/auth", timeout=10)
    assert answer.status_code == 200
    assert answer.json() == {"auth": True}


def listed(kind):
    def check(model):
        found = client.list_models()
        assert found[model]["model_type"] == kind
        assert found[model]["model_name"]

    return check


def described(model):
    record = client.describe_model(model)
    assert record["model_type"] == "LLM"
    assert "chat" in record["model_ability"]
    assert record["model_format"] not in (None, "", "ggmlv3")
    assert record["context_length"] >= 1024


def described_vectors(model):
    record = client.describe_model(model)
    assert record["model_type"] == "embedding"
    assert record["dimensions"] == 64
    assert record["max_tokens"] > 0


def chat(model):
    handle = client.get_model(model)
    answer = handle.chat(
        messages=[{"role": "user", "content": ASK}], generate_config={"max_tokens": 12, "temperature": 0}
    )
    is_said(answer["choices"][0]["message"]["content"])


def stream(model):
    handle = client.get_model(model)
    config = {"max_tokens": 12, "temperature": 0, "stream": True}
    pieces = handle.chat(messages=[{"role": "user", "content": ASK}], generate_config=config)
    is_said("".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces if piece["choices"]))


def tools(model):
    handle = client.get_model(model)
    answer = handle.chat(
        [{"role": "user", "content": ASK}], tools=[TOOL], generate_config={"max_tokens": 12, "temperature": 0}
    )
    assert answer["choices"][0]["message"]["role"] == "assistant"


def generate(model):
    answer = client.get_model(model).generate("the quick", generate_config={"max_tokens": 12, "temperature": 0})
    is_said(answer["choices"][0]["text"])


def embed(model):
    answer = client.get_model(model).create_embedding(["ping"])
    is_vector(answer["data"][0]["embedding"])
    assert answer["usage"]["total_tokens"] > 0


def rerank(model):
    answer = client.get_model(model).rerank(DOCUMENTS, QUERY, return_documents=True)
    is_ranked([(result["index"], result["relevance_score"]) for result in answer["results"]])
    for result in answer["results"]:
        document = result["document"]
        text = document if isinstance(document, str) else document["text"]
        assert text == DOCUMENTS[result["index"]]


def rerank_lengths(model):
    answer = client.get_model(model).rerank(DOCUMENTS, QUERY, top_n=3, return_documents=False, return_len=True)
    is_ranked([(result["index"], result["relevance_score"]) for result in answer["results"]])
    assert answer["meta"]["tokens"]["input_tokens"] > 0


def refused(model):
    """It reads a refusal of the rerank from `detail`, and fails with a KeyError where there is none."""
    handle = client.get_model(model)
    error = refusal(RuntimeError, lambda: handle.rerank(7, QUERY))
    assert "Failed to rerank documents, detail: " in str(error)


def unknown(_):
    assert "nobody" in str(refusal(RuntimeError, lambda: client.get_model("nobody")))
    return 404


def transcription(model):
    answer = client.get_model(model).transcriptions(b"RIFF" * 9000, response_format="verbose_json")
    assert answer["text"] == "the quick brown fox"


def speech(model):
    pieces = client.get_model(model).speech("hello", voice="", stream=True)
    assert b"".join(pieces) == bytes(range(256)) * 64


def cluster(_):
    for path in ("/status", "/v1/cluster/info"):
        answer = requests.get(ROOT + path, headers={"Authorization": f"Bearer {KEY}"}, timeout=10)
        assert answer.status_code == 200, answer.text
        json.loads(answer.text)


run(
    {
        ("chat", "/v1/cluster/auth", "auth"): authenticated,
        ("chat", "/v1/cluster/info", "info"): cluster,
        ("chat", "/v1/models", "list"): listed("LLM"),
        ("embedding", "/v1/models", "list"): listed("embedding"),
        ("reranker", "/v1/models", "list"): listed("rerank"),
        ("transcription", "/v1/models", "list"): listed("audio"),
        ("chat", "/v1/models/{uid}", "describe"): described,
        ("embedding", "/v1/models/{uid}", "describe vectors"): described_vectors,
        ("chat", "/v1/models/{uid}", "unknown"): unknown,
        ("chat", "/v1/chat/completions", "chat"): chat,
        ("chat", "/v1/chat/completions", "stream"): stream,
        ("chat", "/v1/chat/completions", "tools"): tools,
        ("chat", "/v1/completions", "generate"): generate,
        ("embedding", "/v1/embeddings", "create_embedding"): embed,
        ("reranker", "/v1/rerank", "with documents"): rerank,
        ("reranker", "/v1/rerank", "with lengths"): rerank_lengths,
        ("reranker", "/v1/rerank", "refusal"): refused,
        ("transcription", "/v1/audio/transcriptions", "verbose_json"): transcription,
        ("speech", "/v1/audio/speech", "streamed"): speech,
    }
)

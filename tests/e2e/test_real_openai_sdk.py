"""What the OpenAI SDK gets through the router from real engines, next to what the bare engine gives it."""

import base64
import struct
from typing import Any

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from raw_http import events, normal, post
from real_router import RealRouter

from demo.vocabulary import SENTENCE

CHAT = {"llamacpp-chat": "gpt-4o-mini", "vllm-chat": "gpt-4o"}
EMBEDDING = {
    "llamacpp-embedding": "text-embedding-3-small",
    "infinity-embedding": "bge-m3",
    "vllm-embedding": "text-embedding-3-large",
}
RERANK = {
    "llamacpp-rerank": "rerank-english-v3.0",
    "infinity-rerank": "bge-reranker-v2-m3",
    "vllm-embedding": "text-embedding-3-large",
}
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say something."}]
TEXTS = ["the quick brown fox", "seven small engines"]
chat_models = pytest.mark.parametrize("model", CHAT)
embedding_models = pytest.mark.parametrize("model", EMBEDDING)
rerank_models = pytest.mark.parametrize("model", RERANK)


def chat(client: OpenAI, model: str) -> str:
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=20, temperature=0)
    assert answer.model == model
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 20
    return answer.choices[0].message.content or ""


def streamed_chat(client: OpenAI, model: str) -> str:
    stream = client.chat.completions.create(
        model=model,
        messages=MESSAGES,
        max_tokens=20,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert {chunk.model for chunk in chunks} == {model}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def completion(client: OpenAI, model: str) -> str:
    answer = client.completions.create(model=model, prompt="the quick", max_tokens=20, temperature=0)
    assert answer.model == model
    return answer.choices[0].text


def streamed_completion(client: OpenAI, model: str) -> str:
    chunks = list(client.completions.create(model=model, prompt="the quick", max_tokens=20, temperature=0, stream=True))
    assert {chunk.model for chunk in chunks} == {model}
    return "".join(choice.text for chunk in chunks for choice in chunk.choices)


def response(client: OpenAI, model: str) -> str:
    answer = client.responses.create(model=model, input="Say something.", max_output_tokens=20, temperature=0)
    assert answer.model == model
    return answer.output_text


def streamed_response(client: OpenAI, model: str) -> str:
    stream = client.responses.create(
        model=model, input="Say something.", max_output_tokens=20, temperature=0, stream=True
    )
    found = list(stream)
    models = {event.response.model for event in found if hasattr(event, "response")}
    assert models - {None} == {model}  # llama.cpp names it in the last event only
    return "".join(event.delta for event in found if event.type == "response.output_text.delta")


WAYS = [chat, streamed_chat, completion, streamed_completion, response, streamed_response]


@chat_models
@pytest.mark.parametrize("ask", WAYS)
def test_the_text_is_the_bare_engines(router: RealRouter, model: str, ask: Any) -> None:
    text = ask(router.client, model)
    assert " ".join(text.split()[:4]) in f"{SENTENCE} {SENTENCE}"
    assert text == ask(router.engine(model).client, model)


@chat_models
@pytest.mark.parametrize("ask", WAYS)
def test_an_alias_shows_its_own_name_in_every_answer_and_event(router: RealRouter, model: str, ask: Any) -> None:
    assert ask(router.client, CHAT[model]) == ask(router.client, model)


def message(client: OpenAI, model: str) -> dict[str, Any]:
    body = {"model": model, "max_tokens": 20, "temperature": 0, "messages": MESSAGES}
    answer: Any = client.post("/messages", body=body, cast_to=object)
    assert answer["model"] == model
    assert answer["type"] == "message"
    return {"content": answer["content"], "stop_reason": answer["stop_reason"], "usage": answer["usage"]}


@chat_models
def test_anthropics_messages_are_the_bare_engines(router: RealRouter, model: str) -> None:
    answer = message(router.client, CHAT[model])
    assert " ".join(answer["content"][0]["text"].split()[:4]) in f"{SENTENCE} {SENTENCE}"
    bare = message(router.engine(model).client, model)
    assert answer["content"] == bare["content"]
    assert answer["stop_reason"] == bare["stop_reason"] == "max_tokens"


@chat_models
def test_an_alias_shows_its_own_name_in_anthropics_first_event(router: RealRouter, model: str) -> None:
    body = {"model": CHAT[model], "max_tokens": 5, "stream": True, "messages": MESSAGES}
    stream = post(router.port, "/v1/messages", body)
    bare = router.engine(model)
    direct = post(bare.port, "/v1/messages", body | {"model": model}, bare.key)
    assert model.encode() not in stream
    renamed = stream.replace(CHAT[model].encode(), model.encode())
    assert normal(events(renamed)[0]) == normal(events(direct)[0])


@chat_models
def test_tokens_go_there_and_back(router: RealRouter, model: str) -> None:
    bare = router.engine(model)
    field = "content" if model.startswith("llamacpp") else "prompt"
    ask = {"model": model, field: "the quick brown fox"}
    tokens = post(router.port, "/tokenize", ask)
    assert tokens == post(bare.port, "/tokenize", ask, bare.key)
    document: Any = router.client.post(
        f"http://127.0.0.1:{router.port}/tokenize", body=ask | {"model": CHAT[model]}, cast_to=object
    )
    back = {"model": CHAT[model], "tokens": document["tokens"]}
    assert b"the quick brown fox" in post(router.port, "/detokenize", back)


def vectors(client: OpenAI, model: str, **options: Any) -> list[list[float]]:
    answer = client.embeddings.create(model=model, input=TEXTS, **options)
    assert answer.model == model
    assert [item.index for item in answer.data] == [0, 1]
    return [item.embedding for item in answer.data]


@embedding_models
def test_embeddings_in_the_sdks_own_base64_are_the_bare_engines(router: RealRouter, model: str) -> None:
    found = vectors(router.client, model)
    assert found == vectors(router.engine(model).client, model)
    assert len(found[0]) == 64


@embedding_models
def test_embeddings_are_the_same_in_floats_and_in_base64(router: RealRouter, model: str) -> None:
    floats = vectors(router.client, EMBEDDING[model], encoding_format="float")
    encoded: Any = router.client.embeddings.create(model=model, input=TEXTS, encoding_format="base64").data[0].embedding
    assert isinstance(encoded, str)
    numbers = struct.unpack("<64f", base64.b64decode(encoded))
    assert numbers == pytest.approx(floats[0], abs=1e-6)


@embedding_models
def test_an_alias_shows_its_own_name_with_embeddings(router: RealRouter, model: str) -> None:
    assert vectors(router.client, EMBEDDING[model]) == vectors(router.client, model)


def ranking(client: OpenAI, path: str, model: str) -> list[tuple[int, float]]:
    body = {"model": model, "query": "small engines", "documents": ["a lazy dog", "seven small engines", "a token"]}
    answer: Any = client.post(path, body=body, cast_to=object)
    assert answer["model"] == model
    return [(result["index"], result["relevance_score"]) for result in answer["results"]]


@rerank_models
def test_rerank_is_the_bare_engines_on_every_path_and_under_every_name(router: RealRouter, model: str) -> None:
    bare = ranking(router.engine(model).client, "/rerank", model)
    assert sorted(index for index, _ in bare) == [0, 1, 2]
    base = f"http://127.0.0.1:{router.port}"
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        for name in (model, RERANK[model]):
            assert ranking(router.client, base + path, name) == [(i, pytest.approx(score)) for i, score in bare]


def test_score_is_the_bare_engines(router: RealRouter) -> None:
    bare = router.engine("vllm-embedding")
    ask = {"model": "vllm-embedding", "text_1": TEXTS[0], "text_2": TEXTS}
    scores = post(router.port, "/v1/score", ask)
    assert b'"score":' in scores
    assert normal(scores) == normal(post(bare.port, "/v1/score", ask, bare.key))


def test_the_models_are_those_of_the_file_and_their_aliases(router: RealRouter) -> None:
    names = {model.id for model in router.client.models.list()}
    assert names == {"llamacpp-slow", *CHAT, *CHAT.values(), *EMBEDDING, *EMBEDDING.values(), *RERANK, *RERANK.values()}
    assert router.client.models.retrieve("gpt-4o").id == "gpt-4o"

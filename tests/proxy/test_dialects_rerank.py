"""Rerank: real requests of clients, real answers of engines, each as the other side wants it."""

import json
from typing import Any

import pytest
from wanting import NOTHING, PLAIN, Wants

from launchers.base import Dialect
from router.errors import InvalidRequest
from router.proxy.dialects import Adapter, NotUnderstood, adapt

FOX, DOG, SEVEN = "the quick brown fox", "a lazy dog", "seven engines"
TEXTS = [FOX, DOG, SEVEN]
BEST_FIRST = [2, 0, 1]

# What llama.cpp b11549, infinity 0.0.78 and vLLM 0.32 answered to the query "fox" with the demo's tiny reranker.
LLAMACPP = (
    '{"model":"e","object":"list","usage":{"prompt_tokens":21,"total_tokens":21},"results":[{"index":2,'
    '"relevance_score":0.06472814083099365},{"index":0,"relevance_score":-0.38566070795059204},{"index":1,'
    '"relevance_score":-0.4563902020454407}]}'
)
INFINITY = (
    '{"object":"rerank","results":[{"relevance_score":0.5161033272743225,"index":2,"document":null},'
    '{"relevance_score":0.40452486276626587,"index":0,"document":null},{"relevance_score":0.38799038529396057,'
    '"index":1,"document":null}],"model":"e","usage":{"prompt_tokens":51,"total_tokens":51},'
    '"id":"infinity-7f699d25-892f-4d98-b64e-28e339f2f1cb","created":1795213664}'
)
VLLM = (
    '{"id":"score-9aba7f58dafb3593","model":"e","usage":{"prompt_tokens":21,"total_tokens":21},"results":[{"index":2,'
    '"document":{"text":"seven engines","multi_modal":null},"relevance_score":0.5161032676696777},{"index":0,'
    '"document":{"text":"the quick brown fox","multi_modal":null},"relevance_score":0.4045248329639435},{"index":1,'
    '"document":{"text":"a lazy dog","multi_modal":null},"relevance_score":0.3879902958869934}]}'
)
# By the sources: text-embeddings-inference 1.9 (router/src/http/types.rs), SGLang (openai/protocol.py), Cohere's API.
TEI = '[{"index":2,"score":0.516},{"index":0,"score":0.404},{"index":1,"score":0.388}]'
SGLANG = json.dumps(
    [
        {"score": score, "document": TEXTS[index], "index": index, "meta_info": {"prompt_tokens": 7, "id": "x"}}
        for index, score in ((2, 0.516), (0, 0.404), (1, 0.388))
    ]
)
COHERE = json.dumps(
    {
        "id": "07734bd2",
        "results": [{"index": index, "relevance_score": 0.5 - place / 10} for place, index in enumerate(BEST_FIRST)],
        "meta": {"api_version": {"version": "2"}, "tokens": {"input_tokens": 21.0, "output_tokens": 0}},
    }
)
TEI_ENGINE = Dialect(texts=True)


def rerank(body: dict[str, Any], dialect: Dialect = PLAIN, wants: Wants = NOTHING, path: str = "/v1/rerank") -> Adapter:
    adapter = adapt(path, json.dumps(body).encode(), dialect, wants)
    assert adapter is not None
    assert adapter.whole
    return adapter


def sent(body: dict[str, Any], dialect: Dialect = PLAIN) -> Any:
    (only,) = rerank(body, dialect).bodies
    return json.loads(only)


def answered(
    body: dict[str, Any], answer: str, dialect: Dialect = PLAIN, wants: Wants = NOTHING, path: str = "/v1/rerank"
) -> Any:
    return json.loads(rerank(body, dialect, wants, path).answer([answer.encode()]))


def asked(**more: Any) -> dict[str, Any]:
    return {"model": "m", "query": "fox", "documents": TEXTS, **more}


# What each client sends: xinference-client 4.1 (also Dify's plugin), Dify's openai_api_compatible, FastGPT, RAGFlow's
# two providers, Open WebUI, Jina's API, cohere 7.3 with its first and its second API, TEI's own.
CLIENTS: dict[str, dict[str, Any]] = {
    "xinference-client": {
        "model": "m", "documents": TEXTS, "query": "fox", "top_n": None, "max_chunks_per_doc": None,
        "return_documents": True, "return_len": None, "kwargs": "{}",
    },
    "xinference-client by default": {
        "model": "m", "documents": TEXTS, "query": "fox", "top_n": None, "max_chunks_per_doc": None,
        "return_documents": None, "return_len": None, "kwargs": "{}",
    },
    "Dify openai_api_compatible": asked(top_n=None, return_documents=True),
    "FastGPT": asked(),
    "RAGFlow Xinference": {
        "model": "m", "query": "fox", "return_documents": "true", "return_len": "true", "documents": TEXTS,
    },
    "RAGFlow OpenAI-API-Compatible": asked(top_n=3),
    "Open WebUI": asked(top_n=3),
    "Jina": asked(top_n=3, return_documents=True, documents=[{"text": text} for text in TEXTS]),
    "Jina multimodal query": asked(query={"text": "fox"}),
    "cohere v1": {
        "model": "m", "query": "fox", "documents": [{"text": FOX}, DOG, {"text": SEVEN, "id": "7"}],
        "rank_fields": ["text"], "return_documents": True,
    },
    "cohere v2": asked(top_n=3),
    "TEI": {"model": "m", "query": "fox", "texts": TEXTS, "raw_scores": False, "return_text": True, "truncate": True},
}  # fmt: skip
ENGINES: dict[str, tuple[Dialect, str]] = {
    "llama.cpp": (Dialect(logits=True), LLAMACPP),
    "infinity": (Dialect(tokens=False), INFINITY),
    "vLLM": (PLAIN, VLLM),
    "TEI": (TEI_ENGINE, TEI),
    "SGLang": (PLAIN, SGLANG),
    "Cohere": (PLAIN, COHERE),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_understands_every_client(client: str, engine: str) -> None:
    dialect, _ = ENGINES[engine]
    body = sent(CLIENTS[client], dialect)
    assert body.pop("texts" if dialect.texts else "documents") == TEXTS
    assert body.pop("query") == "fox"
    assert body.pop("model") == "m"
    assert body.pop("top_n", 3) == 3
    # TEI's own, which others pass over; infinity has the first as well.
    assert set(body) <= {"raw_scores", "truncate"}


@pytest.mark.parametrize("client", [name for name in CLIENTS if name != "TEI"])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_client_understands_every_engine(client: str, engine: str) -> None:
    dialect, answer = ENGINES[engine]
    given = answered(CLIENTS[client], answer, dialect)
    assert isinstance(given["id"], str)
    assert given["model"] in ("m", "e")
    assert [one["index"] for one in given["results"]] == BEST_FIRST
    assert [one["document"] for one in given["results"]] == [{"text": TEXTS[index]} for index in BEST_FIRST]
    scores = [one["relevance_score"] for one in given["results"]]
    assert scores == sorted(scores, reverse=True)
    if engine != "TEI":
        count = 51 if engine == "infinity" else 21
        assert given["meta"]["tokens"] == {"input_tokens": count, "output_tokens": 0}
        assert given["usage"] == {"prompt_tokens": count, "total_tokens": count}
    else:
        assert not {"meta", "usage"} & set(given)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("texts", [True, False], ids=["with texts", "without texts"])
def test_a_client_of_tei_gets_its_bare_list_from_any_engine(engine: str, texts: bool) -> None:
    dialect, answer = ENGINES[engine]
    given = answered({**CLIENTS["TEI"], "return_text": texts}, answer, dialect)
    assert [one["index"] for one in given] == BEST_FIRST
    assert all(set(one) == {"index", "score", *(["text"] if texts else [])} for one in given)
    if texts:
        assert [one["text"] for one in given] == [TEXTS[index] for index in BEST_FIRST]


@pytest.mark.parametrize("refused", [False, "false", "False"])
def test_a_client_that_wants_no_documents_gets_null_for_each(refused: Any) -> None:
    given = answered(asked(return_documents=refused), VLLM)
    assert [one["document"] for one in given["results"]] == [None, None, None]


@pytest.mark.parametrize(
    ("top_n", "told", "given"),
    [(2, 2, 2), (3, 3, 3), (99, 3, 3), (0, None, 3), (-1, None, 3), ("2", None, 3), (2.5, None, 3), (True, None, 3)],
)
def test_top_n_is_sent_as_a_number_that_every_engine_takes_and_held_to(top_n: Any, told: Any, given: int) -> None:
    body = asked(top_n=top_n)
    assert sent(body).get("top_n") == told
    assert "top_n" not in sent(body, TEI_ENGINE)
    assert len(answered(body, VLLM)["results"]) == given
    assert len(answered(body, TEI, TEI_ENGINE)["results"]) == given


def test_results_come_best_first_and_equal_ones_in_the_order_of_the_documents() -> None:
    results = [{"index": index, "relevance_score": score} for index, score in ((2, -5), (1, 3.5), (0, 3.5))]
    given = answered(asked(), json.dumps({"results": results}))
    assert [(one["index"], one["relevance_score"]) for one in given["results"]] == [(0, 3.5), (1, 3.5), (2, -5)]


@pytest.mark.parametrize(
    ("dialect", "wants", "more", "best"),
    [
        (Dialect(logits=True), Wants(normalize_scores=True), {}, 0.5161764),
        (Dialect(logits=True), Wants(normalize_scores=True), {"raw_scores": False}, 0.5161764),
        (Dialect(logits=True), Wants(normalize_scores=True), {"raw_scores": True}, 0.0647281),
        (Dialect(logits=True), NOTHING, {}, 0.0647281),
        (PLAIN, Wants(normalize_scores=True), {}, 0.0647281),
    ],
)
def test_logits_are_brought_within_0_to_1_where_the_file_wants_it(
    dialect: Dialect, wants: Wants, more: dict[str, Any], best: float
) -> None:
    given = answered(asked(**more), LLAMACPP, dialect, wants)
    assert given["results"][0]["relevance_score"] == pytest.approx(best, abs=1e-6)
    assert [one["index"] for one in given["results"]] == BEST_FIRST


def test_logits_of_any_size_stay_within_0_to_1_and_in_order() -> None:
    logits = [-1e308, -800, -40, 0, 40, 800, 1e308]
    answer = json.dumps({"results": [{"index": at, "relevance_score": one} for at, one in enumerate(logits)]})
    body = asked(documents=["x"] * len(logits))
    given = answered(body, answer, Dialect(logits=True), Wants(normalize_scores=True))["results"]
    assert [one["index"] for one in given] == [6, 5, 4, 3, 2, 1, 0]
    scores = [one["relevance_score"] for one in given]
    assert scores == sorted(scores, reverse=True)
    assert (scores[0], scores[3], scores[-1]) == (1, 0.5, 0)
    assert 0 < scores[4] < 1e-17


def test_other_members_go_to_the_engine_as_they_are() -> None:
    body = '{"truncate_prompt_tokens": 1e2, "query":"q", "x":{ "a":null }, "documents":["\\u00e9\\/"], "model":"m"}'
    adapter = adapt("/v1/rerank", body.encode(), PLAIN, NOTHING)
    assert adapter is not None
    assert adapter.bodies[0].decode() == (
        '{"truncate_prompt_tokens":1e2,"query":"q","x":{ "a":null },"documents":["\\u00e9\\/"],"model":"m"}'
    )
    given = adapter.answer([b'{"results":[{"index":0,"relevance_score":1}]}'])
    assert b'"document":{"text":"\\u00e9\\/"}' in given


def test_an_engine_gets_only_the_members_that_it_takes() -> None:
    dialect = Dialect(takes={"/v1/rerank": frozenset({"query", "documents"})})
    assert sent(asked(top_n=2, user="u"), dialect) == {"model": "m", "query": "fox", "documents": TEXTS}
    assert len(answered(asked(top_n=2), VLLM, dialect)["results"]) == 2


def test_what_the_engine_says_besides_is_kept() -> None:
    given = answered(asked(), INFINITY, path="/v2/rerank")
    assert (given["id"], given["object"], given["created"]) == (
        "infinity-7f699d25-892f-4d98-b64e-28e339f2f1cb",
        "rerank",
        1795213664,
    )
    assert answered(asked(), COHERE)["meta"]["api_version"] == {"version": "2"}
    usage = {"total_tokens": 9, "prompt_tokens_details": {"cached_tokens": 1}}
    given = answered(asked(), json.dumps({"results": [], "usage": usage}))
    assert given["usage"] == {**usage, "prompt_tokens": 9}


@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        ({"usage": {"prompt_tokens": 5, "total_tokens": 5}}, (5, 0)),
        ({"usage": {"total_tokens": 7}}, (7, 0)),
        ({"usage": {"input_tokens": 5, "output_tokens": 2}}, (5, 2)),
        ({"meta": {"tokens": {"input_tokens": 5, "output_tokens": 1}}}, (5, 1)),
        ({"meta": {"billed_units": {"input_tokens": 4}}}, (4, 0)),
        ({"meta": {"billed_units": {"search_units": 1}}}, None),
        ({"meta": {"tokens": None}, "usage": None}, None),
        ({"meta": None, "tokens": {"input_tokens": 3, "output_tokens": 0}}, (3, 0)),
        ({}, None),
    ],
)
def test_tokens_are_told_where_the_engine_tells_them_and_never_made_up(
    said: dict[str, Any], tokens: tuple[int, int] | None
) -> None:
    given = answered(asked(), json.dumps({"results": [], **said}))
    if tokens is None:
        assert not isinstance((given.get("meta") or {}).get("tokens"), dict)
        assert not given.get("usage")
    else:
        assert given["meta"]["tokens"] == {"input_tokens": tokens[0], "output_tokens": tokens[1]}
        assert given["usage"]["prompt_tokens"] == tokens[0]
        assert given["usage"]["total_tokens"] == sum(tokens)


@pytest.mark.parametrize("picture", [{"content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}, [{"a": 1}]])
def test_documents_of_models_for_pictures_pass(picture: Any) -> None:
    body = asked(query=picture, documents=[picture, DOG])
    assert sent(body)["documents"] == [picture, DOG]
    assert sent(body)["query"] == picture
    results = [{"index": 1, "relevance_score": 1}, {"index": 0, "relevance_score": 0}]
    given = answered(body, json.dumps({"results": results}))
    assert [one["document"] for one in given["results"]] == [{"text": DOG}, picture]


@pytest.mark.parametrize(
    ("changes", "param", "says"),
    [
        ({"query": None}, "query", "`query` must be a string"),
        ({"query": 7}, "query", "`query` must be a string"),
        ({"query": {"text": 7}}, "query", "`query` must be a string"),
        ({"documents": None}, "documents", "`documents` is missing"),
        ({"documents": "text"}, "documents", "`documents` must be a list of strings"),
        ({"documents": []}, "documents", "`documents` is empty"),
        ({"documents": [FOX, 7]}, "documents[1]", "`documents[1]` must be a string, or an object with a `text`"),
        ({"documents": [FOX, None]}, "documents[1]", "`documents[1]` must be a string"),
        ({"documents": [{"title": FOX}]}, "documents[0]", "`documents[0]` must be a string"),
        ({"documents": [{"text": None}]}, "documents[0]", "`documents[0]` must be a string"),
        ({"documents": None, "texts": []}, "texts", "`texts` is empty"),
        ({"documents": None, "texts": "x"}, "texts", "`texts` must be a list of strings"),
    ],
)
def test_a_bad_request_is_refused_with_what_to_mend(changes: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rerank(asked(**changes))
    assert says in refused.value.message
    assert (refused.value.code, refused.value.param) == ("invalid_rerank", param)


@pytest.mark.parametrize(
    "answer",
    [
        "", "null", "[1]", "{}", '"text"', '{"results": null}', '{"results": [{"index": 0}]}', '[{"score": 1}]',
        '{"results": [{"index": 3, "relevance_score": 1}]}', '{"results": [{"index": -1, "relevance_score": 1}]}',
        '{"results": [{"index": 0, "relevance_score": null}]}', '{"results": [{"index": 0, "relevance_score": "1"}]}',
        '{"results": [], "usage": 3}',
    ],
)  # fmt: skip
def test_an_answer_that_is_no_rerank_is_not_understood(answer: str) -> None:
    with pytest.raises(NotUnderstood):
        rerank(asked()).answer([answer.encode()])

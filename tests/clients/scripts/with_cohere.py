"""Cohere's SDK: both versions of its API."""

from functools import partial

import cohere
from checks import DOCUMENTS, KEY, QUERY, ROOT, is_ranked, is_vector, refusal, run
from cohere.core import ApiError

first = cohere.Client(api_key=KEY, base_url=ROOT)
second = cohere.ClientV2(api_key=KEY, base_url=ROOT)


def rerank_first(model):
    answer = first.rerank(model=model, query=QUERY, documents=DOCUMENTS)
    is_ranked([(result.index, result.relevance_score) for result in answer.results])


def rerank_documents(model):
    answer = first.rerank(model=model, query=QUERY, documents=DOCUMENTS, top_n=2, return_documents=True)
    assert [result.document.text for result in answer.results] == [DOCUMENTS[result.index] for result in answer.results]
    assert len(answer.results) == 2


def rerank_second(model):
    answer = second.rerank(model=model, query=QUERY, documents=DOCUMENTS)
    is_ranked([(result.index, result.relevance_score) for result in answer.results])


def embed(model):
    """Only vLLM serves this path; a purpose of the input it takes for models alone that know some."""
    call = partial(second.embed, model=model, texts=["the quick"], input_type=None, embedding_types=["float"])
    if model.startswith("vllm"):
        return is_vector(call().embeddings.float_[0])
    return refusal(ApiError, call).status_code


run(
    {
        ("rerank", "/v1/rerank", "rerank"): rerank_first,
        ("rerank", "/v1/rerank", "with documents"): rerank_documents,
        ("rerank", "/v2/rerank", "rerank"): rerank_second,
        ("embedding", "/v2/embed", "embed"): embed,
    }
)

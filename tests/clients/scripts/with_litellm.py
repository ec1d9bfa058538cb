"""LiteLLM's SDK, by the names of the providers that people write for a server of their own."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet for prices when it is imported

import litellm
from checks import ASK, BASE, DOCUMENTS, KEY, QUERY, ROOT, is_ranked, is_said, is_vector, run

MESSAGES = [{"role": "user", "content": ASK}]
litellm.num_retries = 0


def chat(provider, base):
    def check(model):
        answer = litellm.completion(
            f"{provider}/{model}", MESSAGES, api_base=base, api_key=KEY, max_tokens=12, temperature=0
        )
        is_said(answer.choices[0].message.content)
        assert answer.usage.completion_tokens == 12

    return check


def stream(provider, base):
    def check(model):
        pieces = list(
            litellm.completion(
                f"{provider}/{model}",
                MESSAGES,
                api_base=base,
                api_key=KEY,
                max_tokens=12,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        is_said("".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices))
        assert pieces[-1].usage.completion_tokens == 12

    return check


def embedding(model):
    answer = litellm.embedding(f"openai/{model}", ["the quick", "a token"], api_base=BASE, api_key=KEY)
    for item in answer.data:
        is_vector(item["embedding"])


def float_embedding(model):
    answer = litellm.embedding(
        f"hosted_vllm/{model}", ["the quick"], api_base=BASE, api_key=KEY, encoding_format="float"
    )
    is_vector(answer.data[0]["embedding"])


def rerank(provider, base):
    def check(model):
        answer = litellm.rerank(
            f"{provider}/{model}", query=QUERY, documents=DOCUMENTS, top_n=3, api_base=base, api_key=KEY
        )
        is_ranked([(result["index"], result["relevance_score"]) for result in answer.results])

    return check


run(
    {
        ("chat", "/v1/chat/completions", "openai/"): chat("openai", BASE),
        ("chat", "/v1/chat/completions", "openai/ stream"): stream("openai", BASE),
        ("chat", "/v1/chat/completions", "hosted_vllm/"): chat("hosted_vllm", BASE),
        ("chat", "/v1/messages", "anthropic/"): chat("anthropic", ROOT),
        ("chat", "/v1/messages", "anthropic/ stream"): stream("anthropic", ROOT),
        ("embedding", "/v1/embeddings", "openai/"): embedding,
        ("embedding", "/v1/embeddings", "hosted_vllm/"): float_embedding,
        ("rerank", "/v1/rerank", "cohere/"): rerank("cohere", ROOT),
        ("rerank", "/v1/rerank", "jina_ai/"): rerank("jina_ai", ROOT),
        ("rerank", "/rerank", "hosted_vllm/"): rerank("hosted_vllm", ROOT),
    }
)

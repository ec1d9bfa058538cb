"""What only the newest OpenAI SDK shows of an answer: each beside what it makes of the bare engine's."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from e2e.real_router import RealRouter
from matrix import Matrix
from openai import OpenAI
from pydantic import BaseModel
from testbed import CHAT, EMBEDDING, ENGINES, PIXEL

CLIENT = "OpenAI SDK (Python)"
MESSAGES: Any = [{"role": "user", "content": "Say something."}]
SEEING: Any = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
    }
]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NO_BLANKS = {"9": -100, "10": -100, "13": -100, "32": -100}
"""The tiny models would fill the places where JSON may have blanks with blanks for ever."""


class Animal(BaseModel):
    name: bool
    legs: bool


def called(client: OpenAI, model: str, **choice: Any) -> Any:
    return client.chat.completions.create(
        model=model, messages=MESSAGES, tools=[TOOL], max_tokens=200, temperature=0, logit_bias=NO_BLANKS,
        parallel_tool_calls=False, **choice,
    ).choices[0]  # fmt: skip


def tools(client: OpenAI, model: str) -> Any:
    """llama.cpp lets a model speak before a call, and this one never ends."""
    answer = called(client, model, tool_choice="required")
    calls = [call.function for call in answer.message.tool_calls or []]
    assert model != "vllm-chat" or json.loads(calls[0].arguments) == {"city": "Paris"}
    return answer.finish_reason, answer.message.content, calls


def forced_function(client: OpenAI, model: str) -> Any:
    answer = called(client, model, tool_choice={"type": "function", "function": {"name": "weather"}})
    calls = [call.function for call in answer.message.tool_calls or []]
    assert model != "vllm-chat" or json.loads(calls[0].arguments) == {"city": "Paris"}
    return answer.finish_reason, answer.message.content, calls


def streamed_tools(client: OpenAI, model: str) -> Any:
    stream: Any = client.chat.completions.create(
        model=model, messages=MESSAGES, tools=[TOOL], max_tokens=200, temperature=0, logit_bias=NO_BLANKS,
        parallel_tool_calls=False, tool_choice="required", stream=True,
    )  # fmt: skip
    deltas = [chunk.choices[0].delta for chunk in stream if chunk.choices]
    calls = [call.function for delta in deltas for call in delta.tool_calls or []]
    arguments = "".join(call.arguments or "" for call in calls)
    assert model != "vllm-chat" or json.loads(arguments) == {"city": "Paris"}
    return [call.name for call in calls if call.name], arguments, "".join(delta.content or "" for delta in deltas)


def schema(client: OpenAI, model: str) -> Any:
    answer = client.chat.completions.parse(
        model=model, messages=MESSAGES, response_format=Animal, max_tokens=300, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Animal)
    return answer.choices[0].message.parsed


def logprobs(client: OpenAI, model: str) -> Any:
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, logprobs=True, top_logprobs=3, max_tokens=5, temperature=0
    )
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert {len(token.top_logprobs) for token in found.content} == {3}
    return found


def choices(client: OpenAI, model: str) -> Any:
    answer = client.chat.completions.create(model=model, messages=MESSAGES, n=2, seed=1, temperature=0.1, max_tokens=5)
    assert [choice.index for choice in answer.choices] == [0, 1]
    return [choice.message.content for choice in answer.choices]


def seed(client: OpenAI, model: str) -> Any:
    texts = [
        client.chat.completions.create(model=model, messages=MESSAGES, seed=7, temperature=2, max_tokens=12)
        .choices[0]
        .message.content
        for _ in range(2)
    ]
    assert texts[0] == texts[1]
    return texts


def stop(client: OpenAI, model: str) -> Any:
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, stop=[" small"], max_tokens=60, temperature=0
    )
    assert answer.choices[0].finish_reason == "stop"
    return answer.choices[0].message.content


def vision(client: OpenAI, model: str) -> Any:
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model=model, messages=SEEING, max_tokens=5)
    return refused.value.status_code, refused.value.body


WAYS: list[Callable[[OpenAI, str], Any]] = [
    tools, forced_function, streamed_tools, schema, logprobs, choices, seed, stop, vision,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", CHAT)
def test_it_reads_in_the_answer_what_it_reads_in_the_bare_engines(
    router: RealRouter, sdk: OpenAI, matrix: Matrix, model: str, way: Callable[[OpenAI, str], Any]
) -> None:
    with matrix.cell(CLIENT, "/v1/chat/completions", ENGINES[model], way.__name__.replace("_", " ")) as cell:
        found = way(sdk, model)
        assert found == way(router.engine(model).client, model)
        cell.outcome = str(found[0]) if way is vision else "ok"


@pytest.mark.parametrize("model", EMBEDDING)
def test_texts_and_their_openai_tokens_have_the_same_vectors(sdk: OpenAI, matrix: Matrix, model: str) -> None:
    """cl100k's 1820, 4062 and 14198, 39935 are "the quick" and " brown fox"."""
    with matrix.cell(CLIENT, "/v1/embeddings", ENGINES[model], "token numbers"):
        texts = sdk.embeddings.create(model=model, input=["the quick", " brown fox"], encoding_format="float")
        tokens = sdk.embeddings.create(model=model, input=[[1820, 4062], [14198, 39935]], encoding_format="float")
        one = sdk.embeddings.create(model=model, input=[1820, 4062], encoding_format="float")
        for text, token in zip(texts.data, tokens.data, strict=True):
            assert token.embedding == pytest.approx(text.embedding, abs=1e-5)
        assert one.data[0].embedding == pytest.approx(texts.data[0].embedding, abs=1e-5)


def made(client: OpenAI, text: str, **more: Any) -> Any:
    return client.responses.create(model="gpt-4o", input=text, max_output_tokens=12, store=True, **more)


def test_a_response_that_was_kept_is_found_by_its_id(sdk: OpenAI, matrix: Matrix) -> None:
    first = made(sdk, "Say something.")
    assert first.model == "gpt-4o"
    with matrix.cell(CLIENT, "/v1/responses/{id}", "vLLM", "retrieve"):
        assert sdk.responses.retrieve(first.id).output_text == first.output_text
    with matrix.cell(CLIENT, "/v1/responses", "vLLM", "previous response"):
        assert made(sdk, "And?", previous_response_id=first.id).output_text


def test_a_response_in_the_background_is_cancelled_by_its_id(sdk: OpenAI, matrix: Matrix) -> None:
    with matrix.cell(CLIENT, "/v1/responses/{id}/cancel", "vLLM", "cancel"):
        begun = made(sdk, "Say something.", background=True, extra_body={"max_output_tokens": 8000})
        assert sdk.responses.cancel(begun.id).status == "cancelled"


def test_a_response_that_nobody_made_is_not_found(sdk: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve("resp_0123456789abcdef0123456789abcdef")


def test_a_thought_comes_apart_from_the_answer(router: RealRouter, sdk: OpenAI, matrix: Matrix) -> None:
    def thought(client: OpenAI) -> tuple[Any, Any]:
        create = client.chat.completions.create
        whole: Any = create(model="llamacpp-thinking", messages=MESSAGES, max_tokens=12, temperature=0).choices[0]
        stream: Any = create(model="llamacpp-thinking", messages=MESSAGES, max_tokens=12, temperature=0, stream=True)
        pieces = [getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in stream]
        assert whole.message.reasoning_content == "".join(pieces) != ""
        return whole.message, pieces

    with matrix.cell(CLIENT, "/v1/chat/completions", "llama.cpp", "reasoning_content"):
        assert thought(sdk) == thought(router.engine("llamacpp-thinking").client)

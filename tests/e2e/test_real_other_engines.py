"""transformers and MLX through the router: what clients send and expect is theirs, whatever these engines refuse."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from real_router import READY_WITHIN, RealRouter, Up, wait_until

ENGINES = ("transformers-chat", "transformers-batching", "mlx-chat")
MESSAGES = [{"role": "user", "content": "Say something."}]
WORDS = "the quick brown fox jumps over a lazy dog"
# What no OpenAI has, what none of these knows, and nulls of any type.
FOREIGN: dict[str, Any] = {
    "top_k": 40,
    "enable_thinking": False,
    "chat_template_kwargs": None,
    "tools": None,
    "seed": None,
    "logit_bias": None,
    "options": {"num_ctx": 4096},
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def router(installed: None, up: Up) -> Iterator[RealRouter]:  # noqa: ARG001
    """Ended by SIGTERM after the last test, and then nothing may be left."""
    with up("other_engines.yaml") as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def client(router: RealRouter) -> Iterator[openai.OpenAI]:
    with router.client as client:
        yield client


def chat(client: openai.OpenAI, model: str, **more: Any) -> Any:
    return client.chat.completions.create(
        model=model,
        messages=MESSAGES,  # type: ignore[arg-type]
        temperature=0,
        max_tokens=9,
        **more,
    )


@pytest.mark.parametrize("model", [*ENGINES, "gpt-4o", "gpt-4o-mini"])
def test_an_answer_carries_the_public_name(client: openai.OpenAI, model: str) -> None:
    answer = chat(client, model)
    assert answer.model == model
    assert answer.choices[0].message.content.strip() == WORDS
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 9


@pytest.mark.parametrize("model", ENGINES)
def test_a_stream_is_whole_and_carries_the_public_name(client: openai.OpenAI, model: str) -> None:
    chunks = list(chat(client, model, stream=True))
    assert {chunk.model for chunk in chunks} == {model}
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices).strip() == WORDS
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]


@pytest.mark.parametrize("model", ENGINES)
def test_usage_of_a_stream_is_told_where_it_is_asked_for(client: openai.OpenAI, model: str) -> None:
    chunks = list(chat(client, model, stream=True, stream_options={"include_usage": True}))
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [9]


@pytest.mark.parametrize("model", ENGINES)
def test_members_that_the_engine_refuses_do_not_reach_it(client: openai.OpenAI, model: str) -> None:
    answer = chat(client, model, extra_body=FOREIGN)
    assert answer.choices[0].message.content.strip() == WORDS


@pytest.mark.parametrize("model", ENGINES)
def test_tools_may_be_offered(client: openai.OpenAI, model: str) -> None:
    answer = chat(client, model, tools=[WEATHER], tool_choice="auto")
    assert answer.choices[0].message.content


@pytest.mark.parametrize("model", ENGINES)
def test_a_completion_goes_on_with_the_prompt(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="the quick", max_tokens=3, temperature=0)
    assert answer.model == model
    assert answer.choices[0].text.strip()


def test_a_client_cannot_have_mlx_load_another_model(client: openai.OpenAI) -> None:
    answer = chat(client, "mlx-chat", extra_body={"adapters": "/no/such/adapter", "draft_model": "no/such-model"})
    assert answer.choices[0].message.content.strip() == WORDS


@pytest.mark.parametrize("model", ENGINES)
def test_requests_at_the_same_time_are_all_answered(client: openai.OpenAI, model: str) -> None:
    texts: list[str] = []

    def ask() -> None:
        texts.append(chat(client, model).choices[0].message.content.strip())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert texts == [WORDS] * 4


def test_a_model_that_mlx_cannot_load_fails_at_once_and_says_why(installed: None, up: Up, tmp_path: Path) -> None:  # noqa: ARG001
    """Its process lives on, and would until `start_timeout`."""
    (tmp_path / "config.json").write_text("{}")
    with up("mlx_broken.yaml", {"ROUTER_TEST_MODEL": str(tmp_path)}) as running:
        wait_until("its socket is there", lambda: list(running.state.glob("*.sock")), READY_WITHIN)
        wait_until("it is started anew", lambda: running.rows()[0]["restarts"], READY_WITHIN, every=0.2)
        assert "generation thread died" in running.command("logs", "broken")

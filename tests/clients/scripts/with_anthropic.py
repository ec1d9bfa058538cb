"""Anthropic's SDK: with the router's address, and below `/anthropic`; the key goes into `x-api-key`."""

from functools import partial

import anthropic
from checks import ASK, KEY, ROOT, is_said, refusal, run

MESSAGES = [{"role": "user", "content": ASK}]
TOOL = {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object", "properties": {}}}
plain = anthropic.Anthropic(base_url=ROOT, api_key=KEY, max_retries=0)
below = anthropic.Anthropic(base_url=f"{ROOT}/anthropic", api_key=KEY, max_retries=0)


def create(client):
    def check(model):
        answer = client.messages.create(model=model, max_tokens=12, messages=MESSAGES, extra_body={"temperature": 0})
        assert answer.model == model
        assert answer.stop_reason == "max_tokens"
        assert answer.usage.input_tokens > 0
        assert answer.usage.output_tokens == 12
        is_said(answer.content[0].text)

    return check


def stream(client):
    def check(model):
        with client.messages.stream(
            model=model, max_tokens=12, messages=MESSAGES, extra_body={"temperature": 0}
        ) as events:
            is_said("".join(events.text_stream))
            final = events.get_final_message()
        assert final.model == model
        assert final.usage.output_tokens == 12

    return check


def system(model):
    blocks = [{"role": "user", "content": [{"type": "text", "text": ASK}]}]
    answer = plain.messages.create(
        model=model, max_tokens=12, system="Be brief.", messages=blocks, extra_body={"temperature": 0}
    )
    is_said(answer.content[0].text)


def tools(model):
    answer = plain.messages.create(model=model, max_tokens=12, messages=MESSAGES, tools=[TOOL])
    assert {block.type for block in answer.content} <= {"text", "tool_use"}


def count_tokens(model):
    assert plain.messages.count_tokens(model=model, messages=MESSAGES).input_tokens > 3


def unknown_model(_):
    call = partial(plain.messages.create, model="nobody", max_tokens=1, messages=MESSAGES)
    error = refusal(anthropic.NotFoundError, call)
    assert "nobody" in str(error)
    return error.status_code


def wrong_key(model):
    call = partial(plain.with_options(api_key="wrong").messages.create, model=model, max_tokens=1, messages=MESSAGES)
    return refusal(anthropic.AuthenticationError, call).status_code


run(
    {
        ("chat", "/v1/messages", "create"): create(plain),
        ("chat", "/v1/messages", "stream"): stream(plain),
        ("chat", "/v1/messages", "system"): system,
        ("chat", "/v1/messages", "tools"): tools,
        ("chat", "/v1/messages", "unknown model"): unknown_model,
        ("chat", "/v1/messages", "wrong key"): wrong_key,
        ("chat", "/anthropic/v1/messages", "create"): create(below),
        ("chat", "/anthropic/v1/messages", "stream"): stream(below),
        ("chat", "/v1/messages/count_tokens", "count"): count_tokens,
    }
)

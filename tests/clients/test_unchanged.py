"""Answers through the router, byte for byte and with their statuses, beside those of the bare engine."""

import json
from typing import Any

import pytest
from e2e.raw_http import Request, events, normal
from e2e.real_router import RealRouter
from testbed import CHAT, KEY, PIXEL

MESSAGES = [{"role": "user", "content": "Say something."}]
SEEING = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]
LETTERS = "Grüße, 世界, 🦊 "
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "schema": {
            "type": "object",
            "properties": {"ok": {"enum": ["日本語 🦊 ﬁn"]}},
            "required": ["ok"],
            "additionalProperties": False,
        },
    },
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Zürich"]}}, "required": ["city"]},
    },
}
CHATS: dict[str, dict[str, Any]] = {
    "tools": {"tools": [TOOL], "tool_choice": "required", "max_tokens": 100},
    "named tool": {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "schema": {"response_format": SCHEMA, "max_tokens": 80},
    "logprobs": {"logprobs": True, "top_logprobs": 5},
    "three choices": {"n": 3, "max_tokens": 6, "seed": 1, "temperature": 0.1},
    "seed": {"seed": 42, "temperature": 1.5},
    "penalties": {"frequency_penalty": 0.5, "presence_penalty": 0.5, "logit_bias": {"5": -100}},
    "unicode": {"messages": [{"role": "user", "content": LETTERS * 20}]},
    "vision": {"messages": SEEING},
    "usage": {"stream_options": {"include_usage": True}},
    "unknown field": {"a_field_of_tomorrow": {"deep": [1, None, "ü"]}},
    "nothing to say": {"messages": []},
    "wrong type": {"max_tokens": "many"},
    "too long": {"messages": [{"role": "user", "content": "the quick brown fox " * 200_000}]},
}


def answer(port: int, key: str, body: dict[str, Any]) -> tuple[int, bytes]:
    with Request(port, "/v1/chat/completions", body, key) as request:
        found = request.read()
    return request.status, found


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("model", CHAT)
def test_an_answer_is_the_bare_engines(router: RealRouter, model: str, name: str, stream: bool) -> None:
    """Refusals too, with their own words; the largest of these requests has 4 MB."""
    body = {"model": model, "messages": MESSAGES, "max_tokens": 12, "temperature": 0, "stream": stream}
    body |= {"cache_prompt": False} if model.startswith("llamacpp") else {}
    if not stream:
        body.pop("stream")
    body |= CHATS[name]
    bare = router.engine(model)
    through, direct = answer(router.port, KEY, body), answer(bare.port, bare.key, body)
    assert through[0] == direct[0]
    assert shape(through[1], stream) == shape(direct[1], stream)


def shape(body: bytes, stream: bool) -> Any:
    """What two runs of the engine have in common. How the tokens are cut into events, and which of several choices is
    first, is up to the moment, so of a stream it is what the events say together."""
    body = normal(body)
    if not stream or not body.startswith(b"data: "):
        return without_ids(json.loads(body))
    found = events(body)
    assert found[-1].startswith((b"data: [DONE]", b"data: {"))
    return joined([json.loads(event.removeprefix(b"data: ")) for event in found if event != b"data: [DONE]\n\n"])


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_ids(part) for name, part in value.items() if name not in ("id", "prompt_tokens_details")}
    return [without_ids(part) for part in value] if isinstance(value, list) else value


def joined(chunks: list[dict[str, Any]]) -> Any:
    """By choice: the text, the arguments of tool calls and why it ended; besides, the usage."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk.get("choices", []):
            said = choices.setdefault(choice["index"], {"text": "", "arguments": "", "reason": None})
            delta = choice.get("delta", {})
            said["text"] += delta.get("content") or ""
            for call in delta.get("tool_calls") or []:
                said["arguments"] += call["function"].get("arguments") or ""
            said["reason"] = choice.get("finish_reason") or said["reason"]
    usage = [without_ids(chunk["usage"]) for chunk in chunks if chunk.get("usage")]
    return choices, usage[-1:], [chunk["error"] for chunk in chunks if "error" in chunk]


@pytest.mark.parametrize("model", CHAT)
def test_characters_that_tokens_cut_in_two_come_whole(router: RealRouter, model: str) -> None:
    """The grammar has the model say characters of up to four bytes, each a token of its own."""
    body = {"model": model, "messages": MESSAGES, "max_tokens": 80, "stream": True, "response_format": SCHEMA}
    status, stream = answer(router.port, KEY, body)
    assert status == 200
    text = "".join(
        choice["delta"].get("content") or ""
        for event in events(stream)
        if event != b"data: [DONE]\n\n"
        for choice in json.loads(event.removeprefix(b"data: "))["choices"]
    )
    assert json.loads(text) == {"ok": "日本語 🦊 ﬁn"}


@pytest.mark.parametrize("model", CHAT)
def test_usage_that_nobody_asked_for_is_not_shown(router: RealRouter, model: str) -> None:
    body = {"model": model, "messages": MESSAGES, "max_tokens": 4, "stream": True}
    _, stream = answer(router.port, KEY, body)
    assert not [event for event in events(stream) if b'"choices":[]' in event]


def test_a_parameter_of_an_alias_reaches_the_engine(router: RealRouter) -> None:
    status, body = answer(router.port, KEY, {"model": "short", "messages": MESSAGES, "max_tokens": 50})
    assert status == 200
    found = json.loads(body)
    assert (found["model"], found["usage"]["completion_tokens"]) == ("short", 3)

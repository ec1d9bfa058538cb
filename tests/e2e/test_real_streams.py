"""A stream through the router is the engine's: its bytes, its events, and the time of each."""

from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from typing import Any

import pytest
from raw_http import Request, events, normal, post
from real_router import RealRouter, Up
from tap import Tap, tapped

MESSAGES = [{"role": "user", "content": "Say something."}]
CHAT = {"messages": MESSAGES, "max_tokens": 40, "stream": True}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "usage": ("/v1/chat/completions", CHAT | {"stream_options": {"include_usage": True}}),
    "logprobs": ("/v1/chat/completions", CHAT | {"logprobs": True, "top_logprobs": 3}),
    "two choices": ("/v1/chat/completions", CHAT | {"n": 2}),
    "completion": ("/v1/completions", {"prompt": "the quick", "max_tokens": 40, "stream": True}),
    "response": ("/v1/responses", {"input": "Say something.", "max_output_tokens": 40, "stream": True}),
    "message": ("/v1/messages", CHAT),
    "tools": ("/v1/chat/completions", CHAT | {"tools": [WEATHER]}),
    "called tool": ("/v1/chat/completions", CHAT | {"tools": [WEATHER], "tool_choice": "required"}),
    "whole": ("/v1/chat/completions", CHAT | {"stream": False}),
}
CASES = [
    (model, name)
    for model in ("llamacpp-chat", "vllm-chat")
    for name in REQUESTS
    if not (model == "vllm-chat" and "tool" in name)  # it has no parser of tool calls for this model
]


@pytest.mark.parametrize("request_name", REQUESTS)
def test_an_answer_is_byte_for_byte_what_llamacpp_answers_to_the_same_request(
    router: RealRouter, request_name: str
) -> None:
    path, body = REQUESTS[request_name]
    body = {"model": "llamacpp-chat", "temperature": 0, "seed": 1, "cache_prompt": False, **body}
    bare = router.engine("llamacpp-chat")
    through, direct = post(router.port, path, body), post(bare.port, path, body, bare.key)
    if request_name == "two choices":  # which of the two is first is up to the engine
        assert sorted(events(normal(through))) == sorted(events(normal(direct)))
    else:
        assert normal(through) == normal(direct)


class Tapped:
    """A second router over the engines of the first, with a tap on each of its wires."""

    def __init__(self, router: RealRouter, taps: dict[str, Tap]) -> None:
        self.router, self.taps = router, taps


@pytest.fixture(scope="module")
def listening(router: RealRouter, up: Up) -> Iterator[Tapped]:
    llamacpp, vllm = router.engine("llamacpp-chat"), router.engine("vllm-chat")
    with tapped(llamacpp.port) as first, tapped(vllm.port) as second:
        variables = {
            "LLAMACPP_TAP": str(first.port),
            "LLAMACPP_KEY": llamacpp.key,
            "VLLM_TAP": str(second.port),
            "VLLM_KEY": vllm.key,
        }
        with up("tapped.yaml", variables) as running:
            running.wait_ready(20)
            yield Tapped(running, {"llamacpp-chat": first, "vllm-chat": second})


@pytest.mark.parametrize(("model", "request_name"), CASES)
def test_an_answer_is_byte_for_byte_what_the_engine_sent(listening: Tapped, model: str, request_name: str) -> None:
    path, body = REQUESTS[request_name]
    answer = post(listening.router.port, path, {"model": model, **body})
    assert answer == listening.taps[model].bodies()


def test_under_an_alias_only_the_name_differs_from_what_the_engine_sent(listening: Tapped) -> None:
    answer = post(listening.router.port, "/v1/chat/completions", {"model": "fox", **CHAT})
    sent = listening.taps["llamacpp-chat"].bodies()
    assert sent.count(b'"model":"llamacpp-chat"') > 40
    assert answer == sent.replace(b'"model":"llamacpp-chat"', b'"model":"fox"')


def arrivals(port: int, key: str = "any") -> tuple[list[float], int]:
    """When each read of a slow stream came, and how many events there were."""
    body = {"model": "llamacpp-slow", "stream": True, "max_tokens": 120, "messages": MESSAGES, "temperature": 0}
    with Request(port, "/v1/chat/completions", body, key) as request:
        reads = list(request.reads())
    return [when for when, _ in reads], len(events(b"".join(piece for _, piece in reads)))


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def test_each_event_comes_as_it_is_made(router: RealRouter) -> None:
    """The median gap between two events matches the engine's own to a third of it or 2 ms, and the events are not
    gathered: nine in ten come in a read of their own."""
    bare = router.engine("llamacpp-slow")
    arrivals(router.port)  # the engine's caches are warm from here on
    direct, through = [], []
    for _ in range(2):  # in turns: what else the machine does hits both
        direct.append(arrivals(bare.port, bare.key))
        through.append(arrivals(router.port))
    own = median(gap for times, _ in direct for gap in gaps(times))
    ours = median(gap for times, _ in through for gap in gaps(times))
    print(f"median gap: {1000 * own:.2f} ms direct, {1000 * ours:.2f} ms through the router")  # noqa: T201
    for times, count in through:
        assert len(times) >= 0.9 * count
    assert own > 0.001, "the model is too fast to tell"
    assert abs(ours - own) < max(0.002, own / 3)

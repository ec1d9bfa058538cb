"""llama.cpp in each of its forms, and many requests: it closes each connection after 100 of them."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from real_router import RealRouter, Up

from demo.vocabulary import SENTENCE

MANY = 1000
OWN_SERVER = ["xllamacpp", "server"]
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say something."}]
STALL = 10.0
"""Seconds. Two of the times that llama.cpp keeps a thread for an idle connection, which others may wait behind."""


@pytest.fixture(scope="module")
def forms(up: Up) -> Iterator[RealRouter]:
    with up("llamacpp_forms.yaml") as running:
        running.wait_ready()
        yield running


def said(client: OpenAI, model: str, tokens: int = 20) -> str:
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=tokens, temperature=0)
    return answer.choices[0].message.content or ""


def streamed(client: OpenAI, model: str, tokens: int) -> tuple[str, str | None]:
    """The text, and why it ended."""
    chunks = list(
        client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=tokens, temperature=0, stream=True)
    )
    choices = [choice for chunk in chunks for choice in chunk.choices]
    return "".join(choice.delta.content or "" for choice in choices), choices[-1].finish_reason


@pytest.mark.parametrize("form", ["xllamacpp", "server", "python"])
def test_each_form_answers_through_the_router_what_it_answers_bare(forms: RealRouter, form: str) -> None:
    text = said(forms.client, form)
    assert " ".join(text.split()[:4]) in f"{SENTENCE} {SENTENCE}"
    assert text == said(forms.engine(form).client, form)
    assert text == streamed(forms.client, form, 20)[0]


def test_two_streams_of_the_one_at_a_time_form_both_come_to_their_end(forms: RealRouter) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: streamed(forms.client, "python", 300), range(4)))
    assert {reason for _, reason in found} == {"length"}
    assert {len(text.split()) for text, _ in found} == {300}


@pytest.mark.parametrize("form", OWN_SERVER)
def test_a_thousand_requests_one_after_another_have_no_error(forms: RealRouter, form: str) -> None:
    with forms.client as client:
        start = time.monotonic()
        texts = Counter(said(client, form, 4) for _ in range(MANY))
        took = time.monotonic() - start
    assert list(texts.values()) == [MANY]
    print(f"{form}: {MANY} one after another in {took:.1f} s")  # noqa: T201


@pytest.mark.parametrize("form", OWN_SERVER)
def test_a_thousand_requests_at_once_have_no_error_and_none_waits_behind_an_idle_connection(
    forms: RealRouter, form: str
) -> None:
    # Twice: the second time the router's connections are old.
    for _ in range(2):
        answers, took, longest = asyncio.run(all_at_once(forms.port, form))
        print(f"{form}: {MANY} at once in {took:.1f} s, the last after {longest:.1f} s")  # noqa: T201
        assert answers == Counter({(200, "length"): MANY})
        assert longest < STALL


async def all_at_once(port: int, model: str) -> tuple[Counter[tuple[int, str]], float, float]:
    """MANY requests, each on a connection of its own that stays open: (answers, seconds in all, the longest one)."""
    body = json.dumps({"model": model, "messages": MESSAGES, "max_tokens": 4}).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )
    everyone_is_connected = asyncio.Barrier(MANY)
    everyone_is_answered = asyncio.Barrier(MANY)

    async def one() -> tuple[tuple[int, str], float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await everyone_is_connected.wait()
        start = time.monotonic()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        answer = json.loads(await reader.readexactly(int(fields[b"content-length"])))
        took = time.monotonic() - start
        await everyone_is_answered.wait()
        writer.close()
        status = int(head.split()[1])
        return (status, answer["choices"][0]["finish_reason"] if status == 200 else str(answer)), took

    start = time.monotonic()
    async with asyncio.timeout(120):
        found = await asyncio.gather(*(one() for _ in range(MANY)))
    return Counter(answer for answer, _ in found), time.monotonic() - start, max(took for _, took in found)

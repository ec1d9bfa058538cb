"""What the load asks, and what a bare engine, without any router, says to it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from chaos.answers import Answer, read
from chaos.setting import DRIPPING, MODELS, REPOSITORY
from chaos.wire import Wire, get
from demo.vocabulary import WORDS
from router.fleet.ports import Ports

START_WITHIN = 30.0
"""Seconds for a bare engine."""
WRAPPER = REPOSITORY / "launchers/xllamacpp_server.py"


class Question(msgspec.Struct, frozen=True):
    """`model` is whose engines answer it, `asked` the name it uses."""

    model: str
    asked: str
    path: str
    body: bytes
    streams: bool = False


def questions() -> list[Question]:
    return [*_chats(), *_completions(), *_embeddings(), *_drips()]


def _question(model: str, asked: str, path: str, **fields: Any) -> Question:
    body = msgspec.json.encode({"model": asked, **fields})
    return Question(model, asked, path, body, streams=bool(fields.get("stream")))


def _chats() -> list[Question]:
    """By two names, streamed and not."""
    said = [{"role": "user", "content": "Go on."}]
    return [
        _question("chat", asked, "/v1/chat/completions", messages=said, max_tokens=most, temperature=0, stream=stream)
        for asked in ("chat", "gpt-4o-mini")
        for most in (5, 19, 40)
        for stream in (False, True)
    ]


def _completions() -> list[Question]:
    """Each begins at another word of the sentence that the model knows."""
    rest = {"temperature": 0}
    return [
        _question(
            "chat",
            "chat",
            "/v1/completions",
            prompt=f"over {word}",
            max_tokens=8 + number,
            stream=number % 2 == 0,
            **rest,
        )
        for number, word in enumerate(WORDS)
    ]


def _embeddings() -> list[Question]:
    texts = [" ".join(WORDS[number : number + 4]) for number in range(0, len(WORDS) - 4, 2)]
    return [_question("embed", "embed", "/v1/embeddings", input=text) for text in texts]


def _drips() -> list[Question]:
    """Up to a second and a half each, so that whatever happens there are streams that have begun."""
    return [
        _question(
            "drip", "drip", "/v1/chat/completions", messages=said, max_tokens=12 + 3 * number, stream=number % 3 > 0
        )
        for number in range(16)
        for said in [[{"role": "user", "content": f"from {number} on"}]]
    ]


async def learn(asked: Sequence[Question]) -> dict[Question, Answer]:
    """The right answers. Each question is asked twice: what an engine says must not depend on chance."""
    found: dict[Question, Answer] = {}
    for model, argv in _bare().items():
        port = Ports().take()
        async with _running([*argv, "--port", str(port)], port):
            mine = [question for question in asked if question.model == model]
            answers = await asyncio.gather(*(_ask(port, question) for question in (*mine, *mine)))
            for question, first, second in zip(mine, answers, answers[len(mine) :], strict=False):
                assert first.matches(second), f"a bare engine's answers to {question} differ"
                found[question] = first
    return found


def _bare() -> Mapping[str, list[str]]:
    llama = [sys.executable, str(WRAPPER), "--no-webui", "-t", "1", "-m"]
    return {
        "chat": [*llama, str(MODELS / "chat.gguf")],
        "embed": [*llama, str(MODELS / "embedding.gguf"), "--embedding"],
        "drip": [sys.executable, "-S", str(DRIPPING)],
    }


@asynccontextmanager
async def _running(argv: list[str], port: int) -> AsyncIterator[None]:
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdout=null, stderr=null)
    try:
        async with asyncio.timeout(START_WITHIN):
            while (await get(port, "/health")).status != 200:
                assert process.returncode is None, f"a bare engine ended: {argv}"
                await asyncio.sleep(0.05)
        yield
    finally:
        process.terminate()
        await process.wait()


async def _ask(port: int, question: Question) -> Answer:
    wire = Wire(port)
    try:
        reply = await wire.ask("POST", question.path, question.body)
    finally:
        await wire.close()
    answer = read(question.path, reply.body, streams=question.streams)
    assert reply.status == 200, f"a bare engine says {reply.status} to {question}"
    assert reply.complete, f"a bare engine breaks off at {question}"
    assert answer.ended, f"a bare engine does not end its answer to {question}"
    return answer

"""The least that a ready engine is asked where its word is not enough, and what its answer means."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from launchers import LAUNCHERS
from launchers.base import Command, Kind, Launch, Program, Source
from router.config.samples import COMMAND, model_of
from router.fleet.liveness import one_token
from router.fleet.probe import Question, answers

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def commands() -> Iterator[tuple[str, Kind, Command]]:
    for name, launcher in LAUNCHERS.items():
        given = COMMAND if name == "command" else {}
        for kind in launcher.kinds:
            where = "library" if name == "ollama" else "hub"
            launch = Launch(
                name="m", kind=kind, source=Source(where, model_of(name, kind)), port=1, key="k",
                options=msgspec.convert(given, launcher.Options), program=Program((f"/bin/{name}",), "server"),
            )  # fmt: skip
            yield name, kind, launcher.command(launch)


@pytest.mark.parametrize(
    ("engine", "kind", "command"), [pytest.param(*each, id="-".join(each[:2])) for each in commands()]
)
def test_an_engine_is_asked_for_one_token_by_the_members_that_it_knows(
    engine: str, kind: Kind, command: Command
) -> None:
    question = one_token(kind, command, "k")
    if kind not in ("chat", "embedding", "rerank"):
        assert question is None
        return
    assert question is not None
    body = msgspec.json.decode(question.body)
    public = next(public for public, own in command.paths.items() if own == question.path)
    assert body.keys() <= command.dialect.takes.get(public, body.keys())
    assert kind != "rerank" or ("texts" in body) == (engine == "tei") != ("documents" in body)


@pytest.mark.parametrize(
    ("status", "serves"),
    [(200, True), (400, True), (422, True), (401, False), (404, False), (500, False), (503, False)],
)
async def test_an_engine_that_says_what_it_is_not_for_serves(status: int, serves: bool) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await answers(Question("/v1/chat/completions", b"{}", "k"), port, 10) is serves

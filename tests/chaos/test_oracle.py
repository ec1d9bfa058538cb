"""The oracle sees what it is there to see."""

import asyncio
import time
from collections.abc import Callable

import pytest

from chaos.answers import Answer
from chaos.load import Load, Outcome
from chaos.oracle import Damage, Oracle, Window
from chaos.questions import Question, questions
from chaos.thief import Thief
from router.fleet.ports import Ports

CHAT, *_ = (question for question in questions() if question.model == "chat" and question.streams)
DRIP, *_ = (question for question in questions() if question.model == "drip" and question.streams)


def judged(failure: str | None, damage: Damage | None, *, question: Question = CHAT, again: bool = False) -> Oracle:
    """One request from 10 to 11, and a fault from 10.5 to 12."""
    oracle = Oracle()
    if damage is not None:
        oracle.windows.append(Window("fault", 10.5, 12.0, damage))
    oracle.judge([Outcome(question, 10.0, 11.0, failure, again=again)])
    return oracle


NEVER = ("wrong", "faceless", "garbled", "timeout")
HIT = Damage(what="an engine of chat", model="chat")
DOWN = Damage(what="the router", down=True)
MOVED = Damage(what="a takeover", moved=True)


@pytest.mark.parametrize("failure", [*NEVER, "refused", "silent", "torn", "error", "event"])
def test_no_failure_is_excused_without_a_fault(failure: str) -> None:
    assert len(judged(failure, None).violations) == 1


@pytest.mark.parametrize("failure", [*NEVER, "refused", "silent", "error"])
def test_a_fault_of_one_engine_excuses_no_answer_that_had_not_begun_and_no_wrong_one(failure: str) -> None:
    assert len(judged(failure, HIT).violations) == 1


@pytest.mark.parametrize("failure", ["event", "torn"])
def test_it_excuses_answers_of_its_own_model_that_had_begun(failure: str) -> None:
    assert not judged(failure, HIT).violations
    assert judged(failure, HIT, question=DRIP).violations


@pytest.mark.parametrize("failure", ["refused", "silent", "torn", "event"])
def test_a_killed_router_excuses_broken_connections(failure: str) -> None:
    assert not judged(failure, DOWN).violations
    assert judged(failure, MOVED).violations


@pytest.mark.parametrize("failure", [*NEVER, "error"])
def test_a_killed_router_excuses_nothing_else(failure: str) -> None:
    assert judged(failure, DOWN).violations


def test_a_kept_connection_may_end_with_its_router_alone() -> None:
    assert not judged(None, DOWN, again=True).violations
    assert not judged(None, MOVED, again=True).violations
    assert judged(None, HIT, again=True).violations


def test_a_fault_before_or_after_excuses_nothing() -> None:
    oracle = Oracle()
    oracle.windows += [Window("fault", 1.0, 9.9, DOWN), Window("fault", 11.1, 12.0, DOWN)]
    oracle.judge([Outcome(CHAT, 10.0, 11.0, "refused")])
    assert (oracle.lost, oracle.wrong) == (1, 0)


async def first(load: Load, is_it: Callable[[Outcome], bool]) -> Outcome:
    """The first such outcome of a load that runs."""
    load.start()
    end = time.monotonic() + 20
    try:
        while not (found := [outcome for outcome in load.outcomes if is_it(outcome)]):
            assert time.monotonic() < end, load.outcomes
            await asyncio.sleep(0.01)
        return found[0]
    finally:
        await load.stop()


RIGHT = {CHAT: Answer("right", ended=True)}


def test_an_answer_of_somebody_else_is_wrong() -> None:
    async def run() -> Outcome:
        async with Thief(port := Ports().take()):
            return await first(Load(port, RIGHT, seed=1, rate=50), lambda _: True)

    assert asyncio.run(run()).failure == "wrong"


def test_where_nobody_listens_it_is_refused() -> None:
    async def run() -> Outcome:
        return await first(Load(Ports().take(), RIGHT, seed=1, rate=50), lambda _: True)

    assert asyncio.run(run()).failure == "refused"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"id":"%s","model":"chat","choices":[{"delta":{"content":"%s"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"m","type":"t","code":"c"}}\n\n'
WAYS = {
    "right": (None, EVENT % (b"%d", b"right") + DONE, True),
    "in two pieces": (None, EVENT % (b"%d", b"ri") + EVENT % (b"%d", b"ght") + DONE, True),
    "another text": ("wrong", EVENT % (b"%d", b"left") + DONE, True),
    "too little": ("wrong", EVENT % (b"%d", b"rig") + DONE, True),
    "too much": ("wrong", EVENT % (b"%d", b"rightly") + DONE, True),
    "no end": ("wrong", EVENT % (b"%d", b"right"), True),
    "something after the end": ("wrong", EVENT % (b"%d", b"right") + DONE + EVENT % (b"%d", b"right"), True),
    "parts of two": ("wrong", EVENT % (b"%d", b"ri") + EVENT % (b"other", b"ght") + DONE, True),
    "another's name": ("wrong", (EVENT % (b"%d", b"right")).replace(b"chat", b"drip") + DONE, True),
    "an error's event": ("event", EVENT % (b"%d", b"ri") + ERROR, True),
    "an error without a code": ("wrong", EVENT % (b"%d", b"ri") + ERROR.replace(b"code", b"cod"), True),
    "an error behind the end": ("event", EVENT % (b"%d", b"right") + DONE + ERROR, True),
    "cut": ("torn", EVENT % (b"%d", b"ri"), False),
    "cut after something wrong": ("wrong", EVENT % (b"%d", b"le"), False),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_is_judged_by_all_that_it_says(way: str) -> None:
    failure, body, whole = WAYS[way]
    assert asyncio.run(_answered(HEAD + _chunks(body, whole=whole))).failure == failure


def test_the_same_id_twice_is_wrong() -> None:
    body = EVENT % (b"always", b"right") + DONE
    assert asyncio.run(_answered(HEAD + _chunks(body, whole=True), which=1)).failure == "wrong"


@pytest.mark.parametrize(
    ("body", "failure"), [(ERROR[6:], "error"), (b"Internal Server Error", "faceless"), (b"{}", "faceless")]
)
def test_an_error_needs_its_envelope(body: bytes, failure: str) -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert asyncio.run(_answered(head + body)).failure == failure


def _chunks(body: bytes, *, whole: bool) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if whole else b"")


async def _answered(answer: bytes, which: int = 0) -> Outcome:
    """What becomes of a request to a server that says this to everybody; for %d another two digits in each answer."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        await reader.readuntil(b"\r\n\r\n")
        count += 1
        writer.write(answer.replace(b"%d", b"%02d" % count))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    port = Ports().take()
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        load = Load(port, RIGHT, seed=1, rate=50)
        load.start()
        end = time.monotonic() + 20
        while len(load.outcomes) <= which:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)
        outcome = load.outcomes[which]
        await load.stop()
        return outcome

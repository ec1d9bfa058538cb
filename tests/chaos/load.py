"""A steady load, and what came of each of its requests."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence

import msgspec

from chaos.answers import Answer, read
from chaos.questions import Question
from chaos.setting import KEY
from chaos.wire import Reply, Wire

MOST = 96
"""Requests at once; beyond it the load waits, as it would only measure its own queue."""
USES = 40
"""Answers on one connection before a new one is opened."""


class Outcome(msgspec.Struct, frozen=True):
    """One request. `failure` is None for the right answer, else:

    - `wrong`: an answer that says what it should not, or complete without its end;
    - `faceless`: an error that is not OpenAI's envelope;
    - `refused`, `silent`, `torn`, `garbled`, `timeout`: see `wire.Reply`;
    - `error`: an envelope and no answer;
    - `event`: a stream that began right and ended with an error's envelope.
    """

    question: Question
    sent: float
    ended: float
    failure: str | None = None
    detail: str = ""
    again: bool = False
    """Sent a second time, as a kept connection had ended before it came."""

    @property
    def begun(self) -> bool:
        return self.failure in ("event", "torn")


class Load:
    """`rate` requests a second, evenly, chosen by `seed`; from `start` to `stop`."""

    def __init__(self, port: int, right: Mapping[Question, Answer], *, seed: int, rate: float) -> None:
        self.outcomes: list[Outcome] = []
        self.faults: list[BaseException] = []
        """The load's own."""
        self._port, self._right, self._every = port, right, 1 / rate
        self._random = random.Random(seed)  # noqa: S311 - not a secret
        self._questions: Sequence[Question] = list(right)
        self._ids: set[str] = set()
        self._idle: list[Wire] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._pacing: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._pacing = asyncio.ensure_future(self._pace())

    async def stop(self) -> None:
        """Returns once every answer has come, and no connection is left."""
        if self._pacing is not None:
            self._pacing.cancel()
            await asyncio.wait((self._pacing,))
            self._pacing = None
        if self._asking:
            await asyncio.wait(self._asking)
        while self._idle:
            await self._idle.pop().close()

    async def _pace(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due + self._every, time.monotonic() - 1)  # a machine that stood still is not made up for
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(self._asking) < MOST:
                asking = asyncio.ensure_future(self._ask(self._random.choice(self._questions)))
                self._asking.add(asking)
                asking.add_done_callback(self._asked)

    def _asked(self, asking: asyncio.Task[None]) -> None:
        self._asking.discard(asking)
        if (fault := asking.exception()) is not None:
            self.faults.append(fault)

    async def _ask(self, question: Question) -> None:
        sent = time.monotonic()
        wire = await self._connection()
        reply = await wire.ask("POST", question.path, question.body)
        again = reply.broken == "silent" and wire.used > 1  # its last answer may have been the router's last on it
        if again:
            wire = Wire(self._port, KEY)
            reply = await wire.ask("POST", question.path, question.body)
        if wire.open and wire.used < USES:
            self._idle.append(wire)
        else:
            await wire.close()
        failure, detail = self._judge(question, reply)
        self.outcomes.append(Outcome(question, sent, reply.ended, failure, detail, again))

    async def _connection(self) -> Wire:
        while self._idle:
            wire = self._idle.pop()
            if not wire.ended:
                return wire
            await wire.close()
        return Wire(self._port, KEY)

    def _judge(self, question: Question, reply: Reply) -> tuple[str | None, str]:
        seen = f"{reply.status} {reply.body[-300:]!r}"
        if reply.broken in ("refused", "silent", "garbled", "timeout") or (reply.broken and not reply.status):
            return reply.broken, seen
        try:
            answer = self._read(question, reply)
        except ValueError as error:
            return "wrong" if reply.status == 200 else "faceless", f"{error}: {seen}"
        if reply.status != 200:
            return ("error" if answer.error and reply.complete else "faceless"), seen
        failure = self._compare(question, answer, reply)
        return failure, seen if failure else ""

    def _compare(self, question: Question, answer: Answer, reply: Reply) -> str | None:
        right = self._right[question]
        if not answer.begins(right) or not answer.names <= {question.asked} or not self._is_new(answer):
            return "wrong"
        if reply.broken or answer.error is not None:
            return reply.broken or "event"
        return None if answer.ended and answer.matches(right) else "wrong"

    def _read(self, question: Question, reply: Reply) -> Answer:
        """What is not streamed and broke off cannot be read, and says nothing."""
        if reply.broken and not (question.streams and reply.status == 200):
            return Answer()
        return read(question.path, reply.body, streams=question.streams)

    def _is_new(self, answer: Answer) -> bool:
        """One id for all of an answer, and never that of another one."""
        new = len(answer.ids) <= 1 and not answer.ids & self._ids
        self._ids |= answer.ids
        return new

"""One request to an engine, top to bottom: model, claim, ask, relay, release, record.

Callbacks all the way, as each wake of a task costs as much as reading a head: a task is made only to wait for a replica
or for a new connection.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from router.catalog import Catalog, Model, Target
from router.errors import RouterError
from router.measures import Measures, Record, Sums, ms
from router.proxy.named import retries, signature, timed
from router.proxy.paths import Path
from router.proxy.pool import Pool
from router.proxy.relay import Relay, relay_for, shape_of, usage_part
from router.proxy.rename import rename_early, rename_late, rename_whole
from router.proxy.request import Request, check_served, read_request
from router.proxy.turn import Turn
from router.proxy.upstream import ConnectFailed, Connection, Died
from router.proxy.usage import tokens

CLIENT_GONE = 499
"""The status that is recorded where the client did not wait for one; nginx's."""

MAX_NAME = 200
"""Characters of a model's name that are recorded, whatever a client sends."""

FAULTS = frozenset((500, 502, 503, 504))
"""Statuses with which an engine says that it has failed."""

GAPS = 64
"""Times between pieces of a stream that are counted at once."""

_clock = time.perf_counter
log = logging.getLogger("router.proxy")


class Exchange:
    """From the head of a request on; `holder` is its key's.

    Of `_task`, which waits, and `_connection`, which carries the request to `_target`, at most one is there.
    """

    __slots__ = (
        "_answered", "_asked", "_began", "_catalog", "_connection", "_ended", "_error", "_failed", "_first", "_fresh",
        "_gaps", "_last", "_measures", "_model", "_named", "_own", "_path", "_queued", "_relay", "_request", "_sent",
        "_served_by", "_since", "_started", "_status", "_sums", "_target", "_task", "_trial", "_turn", "_usage",
        "holder",
    )  # fmt: skip

    def __init__(self, turn: Turn, path: Path, catalog: Catalog, measures: Measures) -> None:
        self._turn, self._path, self._catalog, self._measures = turn, path, catalog, measures
        self._request: Request  # both from `begin` on
        self._model: Model
        self._asked = self._named = ""
        self._gaps: list[float] = []
        self._sums: Sums | None = None
        self._target: Target | None = None
        self._trial = 0
        self._served_by = ""
        self._connection: Connection | None = None
        self._fresh = False
        self._failed: list[Target] = []
        self._relay: Relay | None = None
        self._task: asyncio.Task[None] | None = None
        self._status = CLIENT_GONE
        self._began = self._since = _clock()
        self._first = self._last = self._own = self._queued = self._ended = self._sent = self._answered = (
            self._started
        ) = 0.0
        self._error = self.holder = ""
        self._usage = b""

    # What the client's connection calls

    def begin(self) -> None:
        """The whole request is here."""
        since = self._since = _clock()
        turn = self._turn
        try:
            request = self._request = read_request(self._path, turn.head, turn.body)
            self._asked = request.model[:MAX_NAME]
            model = self._model = self._catalog.resolve(request.model)
            self._named = model.name
            self._sums = self._measures.of(model.name, self._path.public)
            check_served(model, self._path)
            self._claim()
        except RouterError as error:
            self._fail(error)
        except Exception:
            self._mistake()
        if not self._ended:
            self._own += _clock() - since

    def pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def leave(self) -> None:
        self._since = _clock()
        self._let_go()
        self._record("client_gone")

    def fail(self, error: RouterError) -> None:
        self._since = _clock()
        self._fail(error)

    # What the engine's connection calls

    def arrived(self, data: bytes, *, done: bool) -> None:
        since = self._since = _clock()
        try:
            self._target.heard = since  # type: ignore[union-attr]  # it is claimed as long as it is listened to
            relay = self._relay
            if relay is None:
                if self._judge() or (done and self._pass_whole(data, since)):
                    return
                relay = self._choose_relay()
            if data:
                if not self._first:
                    self._first = since
                elif relay.streams:
                    self._gaps.append(since - self._last)
                    if len(self._gaps) >= GAPS:
                        self._count_gaps()
                self._last = since
            passed = relay.feed(data, ended=done)
            if passed is not None:
                turn = self._turn
                if not turn.started:
                    self._start(relay)
                if done:
                    self._let_go()
                    turn.finish(passed)
                    self._record("")
                else:
                    turn.write(passed)  # type: ignore[arg-type]  # in pieces only at the end
        except Exception:
            self._mistake()
        if not self._ended:
            self._own += _clock() - since

    def broke(self, death: Died) -> None:
        """A kept connection that dies in silence was closed by the engine for its age: then, and only then, the same
        engine is asked again."""
        self._since = _clock()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pool.give_back(connection)
        try:
            if self._fresh or not death.silent or death.timed_out:
                self._give_way(death)
            else:
                self._connect()
        except Exception:
            self._mistake()

    # The walk

    def _claim(self) -> None:
        target = self._model.claim_now(self._failed)
        if target is None:
            self._later(self._wait)
        else:
            self._ask(target)

    async def _wait(self) -> None:
        since, starting = _clock(), not self._model.targets
        try:
            target = await self._model.claim(self._failed)
        finally:
            self._queued += 0.0 if starting else _clock() - since
            self._started += _clock() - since if starting else 0.0
        self._woken()
        self._ask(target)

    def _ask(self, target: Target) -> None:
        self._target = target
        self._trial = target.breaker.trial
        model = self._model
        if target.pool is None:
            target.pool = Pool.of(target, model)
        pool: Pool = target.pool  # type: ignore[assignment]  # nobody else sets it
        if pool.limits is not model.limits:
            pool.use(model.limits)
        connection = pool.take()
        if connection is None:
            self._connect()
        else:
            self._fresh = False
            self._send(connection, target)

    def _connect(self) -> None:
        assert self._target is not None  # noqa: S101 - it is claimed
        self._fresh = True
        target = self._target
        self._later(lambda: self._open(target))

    async def _open(self, target: Target) -> None:
        connection = await target.pool.open()  # type: ignore[union-attr]  # `_ask` has set it
        self._woken()
        self._send(connection, target)

    def _send(self, connection: Connection, target: Target) -> None:
        self._connection = connection
        try:
            connection.ask(self, self._request.pieces_for(target, connection.pool.lines))
            self._sent = _clock()
        except Died as death:
            self.broke(death)
        except RouterError as error:
            self._fail(error)

    def _give_way(self, error: ConnectFailed | Died) -> None:
        """To another replica, as long as the client has been sent nothing; not if this one is only slow, as the other
        would have to begin anew."""
        target, model = self._target, self._model
        assert target is not None  # noqa: S101 - it is claimed
        if self._relay is None and not (isinstance(error, ConnectFailed) and error.own):
            model.failed(target)
        self._failed.append(target)
        timed_out = isinstance(error, Died) and error.timed_out
        if self._turn.started or timed_out or not model.has_other(self._failed):
            self._fail(error.told(model.name))
        else:
            self._try_other(target)

    def _try_other(self, than: Target) -> None:
        trial, self._trial = self._trial, 0
        self._target = self._relay = None
        self._first = 0.0
        self._model.release(than, trial)
        self._claim()

    def _later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = asyncio.ensure_future(self._guarded(work))

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except ConnectFailed as error:
            self._woken()
            self._give_way(error)
        except RouterError as error:
            self._woken()
            self._fail(error)
        except Exception:
            self._woken()
            self._mistake()
        if not self._ended:
            self._own += _clock() - self._since

    def _woken(self) -> None:
        """From a wait, which was no work of the router's own."""
        self._task = None
        self._since = _clock()

    # The answer

    def _judge(self) -> bool:
        """What the head of an answer says of the engine. True: another replica is asked instead."""
        target, connection = self._target, self._connection
        assert target is not None  # noqa: S101 - it is its connection that calls
        assert connection is not None  # noqa: S101
        head = connection.head
        if head.status < 500:
            if target.breaker.doubted:
                self._model.succeeded(target)
            return False
        if head.status not in FAULTS or (head.status == 500 and target.suspect is None):
            return False  # a request may be the cause of a 500, and nobody can ask this server whether it is well
        trial = self._trial
        self._model.failed(target, head.retry_after)
        others = (head.status == 503 or trial) and self._model.has_other((*self._failed, target))
        if not others:
            return False
        self._failed.append(target)
        self._connection = None
        connection.pool.give_back(connection)
        self._try_other(target)
        if not self._ended:
            self._own += _clock() - self._since
        return True

    def _lines(self, fields: bytes, answered: float) -> bytes:
        """The answer's headers: `fields`, the engine's, and what the router says."""
        connection = self._connection
        assert connection is not None  # noqa: S101
        own = self._own + _clock() - self._since
        who = connection.pool.signature
        if self._failed:
            who += retries(len(self._failed))
        return timed(fields, self._turn.id, who, self._started, self._queued, answered - self._sent, own)

    def _count_gaps(self) -> None:
        if self._gaps and self._sums is not None:
            self._sums.gap.observe_all(self._gaps)
            self._gaps.clear()

    def _pass_whole(self, data: bytes, now: float) -> bool:
        """An answer of known length that came in one piece, as short ones do, needs no relay. False: it is another."""
        connection, target, name = self._connection, self._target, self._request.model
        assert connection is not None  # noqa: S101 - it is the one that calls
        assert target is not None  # noqa: S101
        head = connection.head
        shape = shape_of(head)
        if shape.streams or connection.length is None:
            return False
        if data:
            self._first = now
            self._usage = usage_part(data)
            if shape.is_json and name != target.served:
                data = rename_early(data, name) or rename_late(data, name) or rename_whole(data, name)
        self._status = head.status
        lines = self._lines(shape.lines, now)
        self._let_go()
        self._turn.answer(head.status, lines, data)
        self._record("")
        return True

    def _choose_relay(self) -> Relay:
        connection, target, name = self._connection, self._target, self._request.model
        assert connection is not None  # noqa: S101 - it is the one that calls
        assert target is not None  # noqa: S101
        self._answered = self._since
        self._relay = relay_for(connection.head, None if name == target.served else name)
        return self._relay

    def _start(self, relay: Relay) -> None:
        connection = self._connection
        assert connection is not None  # noqa: S101
        head = connection.head
        self._status = head.status
        lines = self._lines(shape_of(head).lines, self._answered)
        self._turn.start(head.status, lines, relay.length(connection.length))

    def _fail(self, error: RouterError) -> None:
        """The error is the whole answer, or the last event of a stream. Any other answer that has begun is left without
        its end, and the client notices."""
        turn = self._turn
        if turn.done:
            return
        self._let_go()
        if not turn.started:
            self._status = error.status
            turn.refuse(error, signature(self._named, self._served_by) + retries(len(self._failed)))
        elif self._relay is not None and (words := self._relay.last_words(error)) is not None:
            turn.finish(words)
        else:
            log.warning("an answer broke off: %s", error.message)
            turn.tear()
        self._record(error.code)

    def _mistake(self) -> None:
        log.exception("a request to %s failed", self._path.public)
        self._fail(RouterError("the router has made a mistake; its log says more"))

    def _let_go(self) -> None:
        """Of all it holds; an engine that is still at work sees its connection close, and stops."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pool.give_back(connection)
        target = self._target
        if target is not None:
            self._target = None
            self._served_by = target.id
            self._model.release(target, self._trial)

    def _record(self, error: str) -> None:
        self._error = error
        self._count_gaps()
        if self._relay is not None:
            self._usage = self._relay.usage
        self._ended = _clock()
        self._own += self._ended - self._since
        self._turn.body = b""
        self._turn.parts.clear()
        self._request = None  # type: ignore[assignment]  # it has the body too, and `record` may have to wait
        self._measures.add(self)

    def record(self, epoch: float) -> tuple[Record, Sums]:
        turn, relay = self._turn, self._relay
        prompt, completion = tokens(self._usage) if self._usage else (None, None)
        record = Record(
            time=datetime.fromtimestamp(self._began + epoch, UTC),
            id=turn.id.decode("ascii"),
            client=turn.peer,
            key=self.holder,
            method=turn.head.method,
            path=self._path.public,
            asked=self._asked if self._asked != self._named else "",
            model=self._named,
            target=self._served_by,
            status=self._status,
            stream=relay is not None and relay.streams,
            error=self._error,
            retries=len(self._failed),
            request_bytes=turn.size,
            response_bytes=turn.sent,
            prompt_tokens=prompt,
            completion_tokens=completion,
            start_ms=ms(self._started) if self._started else None,
            queue_ms=ms(self._queued),
            first_ms=ms(self._first - self._began) if self._first else None,
            total_ms=ms(self._ended - self._began),
            own_ms=ms(self._own),
        )
        return record, self._sums or self._measures.of("", self._path.public)

"""One replica that is asked, and its answer on the way to the client."""

import re
from typing import TYPE_CHECKING

from router.catalog import Target
from router.errors import RouterError, UpstreamError
from router.proxy.dialects import Adapter, NotUnderstood, adapt
from router.proxy.late import Late
from router.proxy.named import retries, timed
from router.proxy.pool import Pool
from router.proxy.relay import Relay, Stream, aborted, relay_for, shape_of
from router.proxy.rename import rename_early, rename_late, rename_whole
from router.proxy.request import Request
from router.proxy.tally import clock
from router.proxy.upstream import Connection, Died, Head
from router.proxy.usage import usage_part, with_usage
from router.proxy.way import way_to

if TYPE_CHECKING:
    from router.proxy.exchange import Exchange

FAULTS = frozenset((500, 502, 503, 504))
"""Statuses with which an engine says that it has failed."""
MAX_WHOLE = 256 << 20
"""Bytes of an answer that the router has to read as a whole, with all its parts."""
MAX_REFUSAL = 65536
"""Bytes of a refusal that is looked at for its reason."""
STOPPED = "it was stopped before the answer's end"
UNENDED = "the stream ended without its last event"

_TOO_LONG = re.compile(
    rb"context_length_exceeded|exceed_context_size|maximum context length|context length of|context window|"
    rb"longer than the model's|max_model_len|exceeds? the available context",
    re.IGNORECASE,
)


class Attempt:
    """A claimed `target` and, while it is asked, the connection. What comes of it is told to the exchange, which is the
    one to end it: `close` gives the claim back, whatever has happened. `trial` as in `Breaker`."""

    __slots__ = (
        "_adapter", "_answered", "_answers", "_asked", "_connection", "_exchange", "_fresh", "_held", "_hides", "_name",
        "_sent", "_size", "_way", "model", "pool", "relay", "target", "trial",
    )  # fmt: skip

    def __init__(self, exchange: "Exchange", target: Target) -> None:
        self._exchange, self.target = exchange, target
        self.model = exchange.hop.model
        self.trial = target.breaker.trial
        self._connection: Connection | None = None
        self._fresh = self._hides = False
        self._adapter: Adapter | None = None
        self._answers: list[bytes] = []
        self._held: list[bytes] | None = None
        self._size = 0
        self._sent = self._answered = 0.0
        self.relay: Relay | None = None
        self._asked: Request

    def begin(self) -> None:
        """Raises RouterError."""
        exchange, target, model = self._exchange, self.target, self.model
        path = exchange.path
        pool: Pool = target.pool  # type: ignore[assignment]  # nobody else sets it
        if pool is None or pool.limits is not model.limits:
            pool = Pool.of(target, model)
        self.pool = pool
        way = pool.ways.get(path.public)
        if way is None:
            way = pool.ways[path.public] = way_to(target, path, model)
        self._way = way
        request = exchange.asking
        self._name = target.names.get(exchange.hop.name) or target.served
        if way.counts and request.streams and (body := with_usage(request.body, request.options)) is not None:
            self._hides = True
            request = request.with_body(body)
        if way.adapts:
            adapter = self._adapter = adapt(path.public, request.body, target.dialect, model.manner.wants)
            if adapter is not None:
                request = request.with_body(adapter.bodies[0])
        self._asked = request
        self._take()

    def close(self) -> None:
        """An engine that is still at work sees its connection close, and stops."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pool.give_back(connection)
        self.model.release(self.target, self.trial)

    def pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    # Asking

    def _take(self) -> None:
        connection = self.pool.take()
        if connection is None:
            self._connect()
        else:
            self._fresh = False
            self._send(connection)

    def _connect(self) -> None:
        self._fresh = True
        self._exchange.later(self._open)

    async def _open(self) -> None:
        connection = await self.pool.open()
        self._exchange.woken()
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        self._connection = connection
        try:
            self._exchange.send(connection, self, self._asked.pieces(self._way, self._name))
            self._sent = clock()
        except Died as death:
            self.broke(death)
        except RouterError as error:
            self._exchange.give_up(error)

    # What the connection calls

    def arrived(self, data: bytes, *, done: bool) -> None:
        exchange = self._exchange
        since = exchange.since = clock()
        try:
            self.target.heard = since
            if self.relay is not None:
                self._pass_on(self.relay, data, done=done)
            elif self._held is not None:
                self._gather(data, done=done)
            else:
                self._first(data, done=done)
        except Exception:
            exchange.mistake()
        if not exchange.ended:
            exchange.own += clock() - since

    def broke(self, death: Died) -> None:
        """A kept connection that dies in silence was closed by the engine for its age: then, and only then, the same
        engine is asked again."""
        exchange = self._exchange
        exchange.since = clock()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pool.give_back(connection)
        try:
            if self._fresh or not death.silent or death.timed_out or not exchange.replayable:
                exchange.give_way(death)
            else:
                self._connect()
        except Exception:
            exchange.mistake()

    # The answer

    def _first(self, data: bytes, *, done: bool) -> None:
        """The first that comes of an answer."""
        exchange, connection = self._exchange, self._connection
        assert connection is not None  # noqa: S101 - it is the one that calls
        head = connection.head
        if exchange.judge(self, head):
            return
        if done and connection.length is not None and not shape_of(head).streams:
            self._size += len(data)
            self._whole(data)
        elif self._is_read_whole(head):
            self._held = []
            self._gather(data, done=done)
        else:
            self._pass_on(self._choose_relay(), data, done=done)

    def _is_read_whole(self, head: Head) -> bool:
        """Whether the router has to know the whole of an answer before any of it can go on."""
        if head.status == 400:
            return self._exchange.has_stand_in()
        if not 200 <= head.status < 300:
            return False
        # Whatever it says it is, as a success may be but one part's.
        return (self._adapter is not None and self._adapter.whole) or (self._way.aborts and shape_of(head).is_json)

    def _gather(self, data: bytes, *, done: bool) -> None:
        assert self._held is not None  # noqa: S101
        self._held.append(data)
        self._size += len(data)
        if self._size > MAX_WHOLE:
            self._give_up_large()
        elif done:
            whole, self._held = b"".join(self._held), None
            self._whole(whole)

    def _give_up_large(self) -> None:
        self._exchange.give_up(UpstreamError(f"the engine's answer is larger than {MAX_WHOLE} bytes"))

    def _whole(self, data: bytes) -> None:
        """An answer that is no stream, all of it."""
        exchange, connection = self._exchange, self._connection
        assert connection is not None  # noqa: S101
        head = connection.head
        shape = shape_of(head)
        adapter = self._adapter
        if 200 <= head.status < 300:
            if self._way.aborts and shape.is_json and aborted(data):
                self._break_off(connection)
                return
            if adapter is not None and adapter.whole:
                answer = self._adapted(adapter, connection, data)
                if answer is None:
                    return
                data = answer
        elif head.status == 400 and _TOO_LONG.search(data, 0, MAX_REFUSAL) and exchange.stand_in():
            return
        self._answer(connection, data, renamed=shape.is_json and exchange.asked_name != self._name)

    def _adapted(self, adapter: Adapter, connection: Connection, data: bytes) -> bytes | None:
        """What the client gets; None: the next part is asked, or all has failed."""
        self._answers.append(data)
        if self._size > MAX_WHOLE:
            self._give_up_large()
            return None
        if len(self._answers) < len(adapter.bodies):
            self._asked = self._asked.with_body(adapter.bodies[len(self._answers)])
            self._connection = None
            connection.pool.give_back(connection)
            self._take()
            return None
        try:
            return adapter.answer(self._answers)
        except NotUnderstood as error:
            message = f"the engine of model '{self._exchange.named}' gave an answer that is none: {error}"
            self._exchange.give_up(UpstreamError(message))
            return None

    def _answer(self, connection: Connection, data: bytes, *, renamed: bool) -> None:
        exchange, status = self._exchange, connection.head.status
        now = exchange.since
        if data:
            exchange.piece(now, streams=False)
            exchange.usage = usage_part(data)
            if renamed:
                name = exchange.asked_name
                data = rename_early(data, name) or rename_late(data, name) or rename_whole(data, name)
        if exchange.pinged:
            late = Late(status, named=exchange.path.named)
            exchange.finish(late.feed(data, ended=True), late.error)
            return
        exchange.status = status
        lines = self._lines(connection, now)
        if exchange.path.owner and status == 200:
            exchange.own_id(data)
        exchange.answer(status, lines, data)

    def _choose_relay(self) -> Relay:
        connection, exchange = self._connection, self._exchange
        assert connection is not None  # noqa: S101
        self._answered = exchange.since
        head = connection.head
        streams = shape_of(head).streams
        if exchange.pinged and not (streams and head.status == 200):
            self.relay = Late(head.status, named=exchange.path.named)
        else:
            name = exchange.asked_name
            other = None if name == self._name else name
            self.relay = relay_for(head, other, hide_usage=self._hides, aborts=self._way.aborts)
            if not streams:
                exchange.calm()
        exchange.streamed = self.relay.streams
        return self.relay

    def _pass_on(self, relay: Relay, data: bytes, *, done: bool) -> None:
        exchange, connection = self._exchange, self._connection
        assert connection is not None  # noqa: S101
        if data:
            if not exchange.first and exchange.path.owner and connection.head.status == 200:
                exchange.own_id(data)
            exchange.piece(exchange.since, streams=relay.streams)
        passed = relay.feed(data, ended=done)
        if relay.aborted:
            if passed or exchange.begun:
                self._start(relay, connection)
                exchange.turn.write(passed or b"")  # type: ignore[arg-type]
            self._break_off(connection)
        elif passed is not None:
            self._start(relay, connection)
            if done and isinstance(relay, Stream) and not (connection.head.framed or relay.complete):
                # Only the connection's end says that this is all, and it may have broken off.
                exchange.turn.write(passed)  # type: ignore[arg-type]
                exchange.give_way(Died(UNENDED))
            elif done:
                exchange.finish(passed, relay.error if isinstance(relay, Late) else "")
            else:
                exchange.turn.write(passed)  # type: ignore[arg-type]  # in pieces only at the end

    def _break_off(self, connection: Connection) -> None:
        """The engine was stopped, and says so only in the answer."""
        self._connection = None
        connection.abort()
        self._exchange.give_way(Died(STOPPED))

    def _start(self, relay: Relay, connection: Connection) -> None:
        exchange = self._exchange
        if exchange.begun:
            return
        head = connection.head
        lines = b"" if exchange.pinged else self._lines(connection, self._answered)
        exchange.start(head.status, lines, relay.length(connection.length))

    def _lines(self, connection: Connection, answered: float) -> bytes:
        """The answer's headers: the engine's, and what the router says."""
        exchange = self._exchange
        own = exchange.own + clock() - exchange.since
        who = self.pool.signature
        if exchange.tries:
            who += retries(exchange.tries)
        fields = shape_of(connection.head).lines
        return timed(fields, exchange.turn.id, who, exchange.started, exchange.queued, answered - self._sent, own)

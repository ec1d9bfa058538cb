"""One request to an engine, top to bottom: model, claim, ask, relay, release, record.

Callbacks all the way, as each wake of a task costs as much as reading a head: a task is made only to wait for a replica
or for a new connection.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from router.catalog import Catalog, Hop, Target
from router.errors import RouterError
from router.measures import Measures
from router.proxy.attempt import FAULTS, Attempt
from router.proxy.body import too_deep
from router.proxy.events import ping
from router.proxy.named import id_line, retries, signature
from router.proxy.owners import Owner, Owners
from router.proxy.paths import Route
from router.proxy.request import Request, not_served, read_json
from router.proxy.tally import Tally, clock
from router.proxy.turn import Turn
from router.proxy.upstream import ConnectFailed, Connection, Died, Head

MAX_NAME = 200
"""Characters of a model's name that are recorded, whatever a client sends."""

_STREAM_HEAD = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"

log = logging.getLogger("router.proxy")


class Exchange(Tally):
    """From the head of a request on. Of `_task`, which waits, and `_attempt`, which asks a replica, both are there only
    while a connection to that one is being opened.

    `asking` is the request as it is meant for the model of `hop`, the one of `_hops` that is asked. `begun`: bytes of
    an engine's answer have gone out, so there is no other answer any more; `pinged`: signs of life have.
    """

    __slots__ = (
        "_at", "_attempt", "_catalog", "_failed", "_hops", "_owners", "_pulse", "_request", "_task", "asked_name",
        "asking", "begun", "hop", "pinged", "route",
    )  # fmt: skip

    replayable = True
    """Whether the whole request is here, to be sent again."""
    alone = False
    """Whether no other replica could answer."""

    def __init__(self, turn: Turn, route: Route, catalog: Catalog, owners: Owners, measures: Measures) -> None:
        super().__init__(turn, route.path, measures)
        self.route, self._catalog, self._owners = route, catalog, owners
        self._request: Request  # the client's; this and the next three from `begin` on
        self.asking: Request
        self.hop: Hop
        self._hops: Sequence[Hop] = ()
        self._at = 0
        self._failed: list[Target] = []
        self._attempt: Attempt | None = None
        self._task: asyncio.Task[None] | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self.begun = self.pinged = False
        self.asked_name = ""

    # What the client's connection calls

    def begin(self) -> None:
        """The whole request is here."""
        since = self.since = clock()
        try:
            self._set_out(read_json(self.route, self.turn.head, self.turn.body))
        except RouterError as error:
            self.give_up(error)
        except RecursionError:
            self.give_up(too_deep())
        except Exception:
            self.mistake()
        self.paused_since(since)

    def pause(self) -> None:
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        if self._attempt is not None:
            self._attempt.resume()

    def leave(self) -> None:
        self.since = clock()
        self._let_go()
        self._end("client_gone")

    def fail(self, error: RouterError) -> None:
        self.since = clock()
        self.give_up(error)

    # The walk

    def _set_out(self, request: Request) -> None:
        """Raises RouterError."""
        self._request = request
        self.asked_name = request.model
        self.asked = request.model[:MAX_NAME]
        hops: Sequence[Hop] = self._catalog.hops(request.model)
        self.hop = hops[0]
        paths = hops[0].model.paths
        if len(hops) > 1 or (paths is not None and self.path.public not in paths):
            hops = self._serving(hops)
        self._hops = hops
        if request.streams and (keepalive := hops[0].model.limits.keepalive):
            self._pulse = asyncio.get_running_loop().call_later(keepalive, self._ping)
        self._enter(0)
        self._claim()

    def _serving(self, hops: Sequence[Hop]) -> Sequence[Hop]:
        """Those that have the path. Raises NotSupported."""
        found = [hop for hop in hops if hop.model.serves(self.path.public)]
        if not found:
            self._name(hops[0])
            raise not_served(hops[0].model, self.path, self._catalog.serving(self.path.public), self.asked_name)
        return found

    def _name(self, hop: Hop) -> None:
        """Its model is the one that is recorded."""
        self.hop = hop
        self.named = hop.model.name
        self.sums = self.measures.of(self.named, self.path.public)

    def _enter(self, at: int) -> None:
        self._at = at
        hop = self._hops[at]
        self._name(hop)
        hop.model.budget.requests += 1
        self.asking = self._request.edited(hop.edits) if hop.edits else self._request

    def _claim(self) -> None:
        model = self.hop.model
        if self._request.previous and not self._failed and (owner := self._owner_of(self._request.previous)):
            self.ask(owner)
            return
        target = model.claim_now(self._failed)
        if target is not None:
            self.ask(target)
        elif model.has_other(self._failed) or not self._pass_on():
            self.later(self._wait)

    def _owner_of(self, id: str) -> Target | None:  # noqa: A002
        """The replica that knows the answer from which this one goes on, claimed."""
        owner, model = self._owners.of(id), self.hop.model
        if owner is None or owner.model != model.name:
            return None
        return next((each for each in model.targets if each.id == owner.target and model.claim_this(each)), None)

    async def _wait(self) -> None:
        model = self.hop.model
        since, starting = clock(), not model.targets
        try:
            target = await model.claim(self._failed)
        finally:
            self.queued += 0.0 if starting else clock() - since
            self.started += clock() - since if starting else 0.0
        self.woken()
        self.ask(target)

    def ask(self, target: Target) -> None:
        """A claimed one."""
        attempt = self._attempt = Attempt(self, target)
        try:
            attempt.begin()
        except RouterError as error:
            self.give_up(error)
        except RecursionError:
            self.give_up(too_deep())

    def send(self, connection: Connection, attempt: Attempt, pieces: Sequence[bytes | memoryview]) -> None:
        """Raises Died."""
        connection.ask(attempt, pieces)

    # What an attempt finds out

    def judge(self, attempt: Attempt, head: Head) -> bool:
        """What the head of an answer says of the engine. True: another one is asked instead."""
        target, model = attempt.target, attempt.model
        if head.status < 500:
            if target.breaker.doubted:
                model.succeeded(target)
            return False
        if head.status not in FAULTS:
            return False
        if head.status != 500 or target.suspect is not None:
            model.failed(target, head.retry_after)  # else the request may be the cause, and nobody can ask the server
        another = self.replayable and model.has_other((*self._failed, target))
        if (head.status == 503 or attempt.trial) and another and model.may_retry():
            self._avoid(target)
            self._claim()
            return True
        return self.stand_in()

    def give_way(self, error: ConnectFailed | Died) -> None:
        """To another replica or model, as long as nothing of an answer has gone out; not if this one is only slow, as
        the other would have to begin anew."""
        attempt = self._attempt
        assert attempt is not None  # noqa: S101 - it is the one that calls
        target, model = attempt.target, attempt.model
        if attempt.relay is None and not (isinstance(error, ConnectFailed) and error.own):
            model.failed(target)
        timed_out = isinstance(error, Died) and error.timed_out
        self._failed.append(target)
        self.tries += 1
        if self.begun or timed_out or self.alone or not self.replayable:
            self.give_up(error.told(model.name))
        elif model.has_other(self._failed) and model.may_retry():
            self._drop()
            self._claim()
        elif not self.stand_in():
            self.give_up(error.told(model.name))

    def has_stand_in(self) -> bool:
        """Whether another model could be asked in place of this one."""
        return self.replayable and self._next_ready() > 0

    def stand_in(self) -> bool:
        """Asks it, if there is one and its model's retries are not used up. False: it is for the caller to answer."""
        at = self._next_ready()
        if not at or not self.replayable or not self.hop.model.may_retry():
            return False
        if self._attempt is not None and self._attempt.target not in self._failed:
            self._failed.append(self._attempt.target)
            self.tries += 1
        self._drop()
        self._enter(at)
        self._claim()
        return True

    def _pass_on(self) -> bool:
        """To a model that is ready, without having asked one that is not."""
        at = self._next_ready()
        if at:
            self._enter(at)
            self._claim()
        return at > 0

    def _next_ready(self) -> int:
        """Where in `_hops`; 0 if nowhere."""
        for at in range(self._at + 1, len(self._hops)):
            if self._hops[at].model.has_other(self._failed):
                return at
        return 0

    def _avoid(self, target: Target) -> None:
        self._failed.append(target)
        self.tries += 1
        self._drop()

    def _drop(self) -> None:
        """The attempt, of which nothing has reached the client."""
        attempt, self._attempt = self._attempt, None
        self.first = 0.0
        if attempt is not None:
            attempt.close()

    # Waiting

    def later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = asyncio.ensure_future(self._guarded(work))

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await self._settled(work)
        except Exception:  # also what goes wrong while another one is asked instead
            self.woken()
            self.mistake()
        self.paused_since(self.since)

    async def _settled(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except ConnectFailed as error:
            self.woken()
            self.give_way(error)
        except RouterError as error:
            self.woken()
            if self._attempt is not None or not self._pass_on():
                self.give_up(error)

    def woken(self) -> None:
        """From a wait, which was no work of the router's own."""
        self._task = None
        self.since = clock()

    def paused_since(self, since: float) -> None:
        """The work that was begun then is done for now."""
        if not self.ended:
            self.own += clock() - since

    # The answer

    def start(self, status: int, lines: bytes, length: int | None) -> None:
        """The engine's; nobody else is asked any more."""
        self.begun = True
        self.calm()
        if not self.pinged:
            self.status = status
            self.turn.start(status, lines, length)

    def finish(self, data: bytes | list[bytes], error: str = "") -> None:
        """`error` is what is recorded: the status may be past."""
        self.begun = True
        self._let_go()
        self.turn.finish(data)
        self._end(error)

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """All of it at once."""
        self.begun = True
        self._let_go()
        self.turn.answer(status, lines, body)
        self._end("")

    def own_id(self, piece: bytes) -> None:
        """Who is asked for this answer again."""
        attempt = self._attempt
        if attempt is not None:
            self._owners.learn(piece, Owner(attempt.model.name, attempt.target.id, self.asked_name))

    def calm(self) -> None:
        """No more signs of life: what comes is no stream, or has come."""
        if self._pulse is not None:
            self._pulse.cancel()
            self._pulse = None

    def _ping(self) -> None:
        """A sign of life to a client that waits for the first byte: some give up after 15 s without any."""
        turn = self.turn
        if not self.pinged:
            self.pinged = True
            self.status = 200
            turn.start(200, _STREAM_HEAD + id_line(turn.id) + signature(self.named, ""), None)
        turn.write(ping(self.path.named))
        self._pulse = asyncio.get_running_loop().call_later(self.hop.model.limits.keepalive or 1, self._ping)

    def give_up(self, error: RouterError) -> None:
        """The error is the whole answer, or the last event of a stream. Any other answer that has begun is left without
        its end, and the client notices."""
        turn = self.turn
        if turn.done:
            return
        relay = None if self._attempt is None else self._attempt.relay
        self._let_go()
        if not turn.started:
            self.status = error.status
            turn.refuse(error, signature(self.named, self.served_by) + retries(self.tries))
        elif not self.begun:
            turn.finish(error.event(named=self.path.named))
        elif relay is not None and (words := relay.last_words(error)) is not None:
            turn.finish(words)
        else:
            log.warning("an answer broke off: %s", error.message)
            turn.tear()
        self._end(error.code)

    def mistake(self) -> None:
        log.exception("a request to %s failed", self.path.public)
        self.give_up(RouterError("the router has made a mistake; its log says more"))

    def _let_go(self) -> None:
        """Of all it holds."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self._pulse is not None:
            self.calm()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self.served_by = attempt.target.id
            if attempt.relay is not None:
                self.usage = attempt.relay.usage
            attempt.close()

    def _end(self, error: str) -> None:
        self._request = self.asking = None  # type: ignore[assignment]  # they have the body, and `record` may have to wait
        self.end(error)

"""A public name, the replicas that answer to it, and the requests that wait for one."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from launchers.kinds import KIND_PATHS
from router.catalog.balance import Balance
from router.catalog.budget import Budget
from router.catalog.circuit import Circuit
from router.catalog.hops import Manner
from router.catalog.target import Target
from router.errors import ModelNotFound, RouterError, Unavailable

_BY_KIND = {str(kind): paths for kind, paths in KIND_PATHS.items()}

RETRY_AFTER = 10
"""Seconds, the `Retry-After` of a model that did not get ready in time."""


class Limits(Protocol):
    """A model's times in seconds, the length of its queue, and the share of its requests that may be sent again."""

    @property
    def retry_budget(self) -> float: ...
    @property
    def keepalive(self) -> float: ...
    @property
    def queue_timeout(self) -> float: ...
    @property
    def queue_size(self) -> int: ...
    @property
    def connect_timeout(self) -> float: ...
    @property
    def response_timeout(self) -> float: ...
    @property
    def stall_timeout(self) -> float: ...


Waiter = tuple[asyncio.Future[Target], Collection[Target]]
"""A request without a replica, and those it does not want."""


class Model:
    """A public name, and the replicas that answer to it.

    `paths` are the public paths it serves (None: any). `stopped`: by somebody's wish, so that nobody waits for it.
    `outlook` is the fleet's word on when the model will be ready,
    for the message of a request that waited in vain, `diagnosis` all it knows, for admins. `failures` and
    `openings` count the requests that failed at an engine and the circuits that opened, of all targets it ever had.

    All else that changes is in four places: `_targets`, all of them; `_ready`, those that may be claimed; `_waiting`,
    for which none is free; and what each target has of its own. A target of `_targets` that is not in `_ready` has an
    open circuit, or a half-open one whose trial is under way.
    """

    def __init__(
        self,
        name: str,
        *,
        kind: str,
        engine: str,
        aliases: Iterable[str] = (),
        paths: Iterable[str] | None = None,
        limits: Limits,
        manner: Manner = Manner(),  # noqa: B008 - it is frozen
        created: int = 0,
    ) -> None:
        self.name, self.kind, self.engine, self.limits, self.created = name, kind, engine, limits, created
        self.aliases = tuple(aliases)
        self.paths = None if paths is None else frozenset(paths)
        self.manner = manner
        self.budget = Budget()
        self.stopped = False
        self.outlook = "it was not started yet"
        self.diagnosis: Mapping[str, str] | None = None
        self.failures = self.openings = 0
        self._targets: dict[Target, None] = {}
        self._ready = Balance()
        self._waiting: deque[Waiter] = deque()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Model {self.name} targets={self.targets} waiting={self.waiting}>"

    @property
    def targets(self) -> list[Target]:
        """Its replicas: the ready ones, the next to be claimed first, then those that are given no requests."""
        ready = list(self._ready)
        return [*ready, *(target for target in self._targets if target not in ready)]

    def serves(self, path: str) -> bool:
        """Whether its engine has this public path, as far as is known."""
        return self.paths is None or path in self.paths

    def offers(self, path: str) -> bool:
        """Whether somebody who looks for this public path should be sent here: a server elsewhere is taken to have what
        its kind has."""
        return path in (_BY_KIND.get(self.kind, ()) if self.paths is None else self.paths)

    @property
    def ready(self) -> bool:
        """Whether a replica takes requests, free or not."""
        return bool(self._ready)

    @property
    def reason(self) -> str:
        """Why none does."""
        wait = self._retry_in()
        if wait is None:
            return "its engine does not answer its probe" if self._targets and not self._ready else self.outlook
        return f"its engine fails every request; it is tried again in {max(1, math.ceil(wait))} s"

    @property
    def in_flight(self) -> int:
        """How many requests are at its replicas."""
        return sum(target.in_flight for target in self._targets)

    @property
    def waiting(self) -> int:
        """How many requests wait for a replica."""
        return len(self._waiting)

    # What the fleet calls

    def declare(self, other: "Model") -> None:
        """From here on it is what `other` says, for the requests that come then."""
        self.kind, self.engine, self.limits = other.kind, other.engine, other.limits
        self.aliases, self.paths = other.aliases, other.paths
        self.manner = other.manner

    def add(self, target: Target) -> None:
        """A replica became ready."""
        self._targets[target] = None
        self._ready.add(target)
        self._serve_waiting()

    def remove(self, target: Target) -> None:
        """No new request reaches `target` from here on; those in flight go on, and then its `on_idle` is called."""
        self._targets.pop(target, None)
        self._ready.remove(target)
        target.removed = True
        target.breaker.close()
        target.close_if_idle()

    def open_circuit(self, target: Target) -> None:
        """Its liveness probe failed: no request from here on, until `close_circuit`. Those in flight go on."""
        if target in self._targets and not target.breaker.held:
            self.openings += 1
            self._ready.remove(target)
            target.breaker.hold()

    def close_circuit(self, target: Target) -> None:
        """A probe has shown that it is well."""
        if target in self._targets:
            target.breaker.close()
            self._ready.add(target)
            self._serve_waiting()

    def stop(self, outlook: str) -> None:
        """By somebody's wish: who waits is told so, as is who comes, until `stopped` is false again."""
        self.stopped, self.outlook, self.diagnosis = True, outlook, None
        self._refuse_waiting(self._late)

    def close(self) -> None:
        """The model is no longer declared: who waits is told so, and nobody waits again. Requests in flight go on to
        their end; its targets are removed by whoever added them."""
        self._closed = True
        self._refuse_waiting(self._removed)

    def _refuse_waiting(self, error: Callable[[], RouterError]) -> None:
        waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            if not future.done():
                future.set_exception(error())

    # What the proxy calls

    def has_other(self, than: Collection[Target]) -> bool:
        """Whether a replica is ready, free or not, that is none of `than`."""
        return any(target not in than for target in self._ready)

    def may_retry(self) -> bool:
        """Whether one more of its requests may be sent again."""
        return self.budget.take(self.limits.retry_budget)

    async def claim(self, avoid: Collection[Target] = ()) -> Target:
        """A replica, counted as taken; first come, first served. `Unavailable` after `limits.queue_timeout` seconds,
        or at once where none will be tried before; ModelNotFound when the model is closed.

        Whoever claims must `release`. A task cancelled while it waits holds nothing.
        """
        return self.claim_now(avoid) or await self._wait(avoid)

    def claim_now(self, avoid: Collection[Target] = ()) -> Target | None:
        """A replica at once, or None: none is free, or others wait already. Never one of `avoid`.

        One whose circuit is half-open is taken by a single request, as its trial: then, and only then, `breaker.trial`
        is not 0, and is to be given back with the claim.
        """
        return None if self._waiting else self._take(avoid)

    def claim_this(self, target: Target) -> bool:
        """This replica and no other, whatever its limit, for what only it knows of. False: it takes no requests."""
        if target not in self._ready or target.breaker.trial:
            return False
        self._ready.take(target)
        return True

    def release(self, target: Target, trial: int = 0) -> None:
        """Gives a claim back. A `trial` that has shown nothing, as its client left, is another request's."""
        self._ready.release(target)
        if trial and trial == target.breaker.trial:
            self._ready.add(target)
        target.close_if_idle()
        if self._waiting:
            self._serve_waiting()

    def succeeded(self, target: Target) -> None:
        """It has begun to answer. Need not be told unless `breaker.doubted`."""
        if target in self._targets and not target.breaker.held:
            target.breaker.answered()
            self._ready.add(target)
            self._serve_waiting()

    def failed(self, target: Target, retry_after: float = 0.0) -> None:
        """A request failed at it, by no fault of the client's. Should that open its circuit, then for `retry_after`
        seconds or more. What a removed target does is no fault."""
        if target not in self._targets:
            return
        self.failures += 1
        if not target.breaker.fail():
            return
        self.openings += 1
        self._ready.remove(target)
        target.breaker.open(retry_after, lambda: self._try_again(target))
        if target.suspect is not None:
            target.suspect(target)

    def _try_again(self, target: Target) -> None:
        target.breaker.half_open()
        self._ready.add(target)
        self._serve_waiting()

    def _take(self, avoid: Collection[Target]) -> Target | None:
        target = self._ready.claim(avoid)
        if target is not None and target.breaker.trial:
            self._ready.remove(target)  # nobody else until it is known how the trial ends
        return target

    # The queue

    async def _wait(self, avoid: Collection[Target]) -> Target:
        self._check_worth_waiting()
        future: asyncio.Future[Target] = asyncio.get_running_loop().create_future()
        waiter = (future, avoid)
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self.limits.queue_timeout):
                return await future
        except TimeoutError:
            self._leave(waiter)
            raise self._late() from None
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _check_worth_waiting(self) -> None:
        if self._closed:
            raise self._removed()
        if self.stopped:
            raise self._late()
        wait = self._retry_in()
        if wait is not None and wait > self.limits.queue_timeout:
            raise self._late()
        if len(self._waiting) >= self.limits.queue_size:
            message = f"model '{self.name}' has {self.limits.queue_size} requests waiting already; try again later"
            raise Unavailable(message, code="queue_full", retry_after=5)

    def _retry_in(self) -> float | None:
        """Seconds until a replica is tried again, where all of them fail; None: some do not, or none is there, or it is
        for the fleet to say."""
        if self._ready or not self._targets:
            return None
        breakers = [target.breaker for target in self._targets]
        if any(breaker.circuit is Circuit.HALF_OPEN for breaker in breakers):
            return 0.0
        at = min(breaker.retry_at for breaker in breakers)
        return None if math.isinf(at) else at - asyncio.get_running_loop().time()

    def _late(self) -> Unavailable:
        if self._ready and not self.stopped:  # else they are about to be taken away
            message = f"all replicas of model '{self.name}' are at their limit; try again later"
            return Unavailable(message, code="model_busy", retry_after=RETRY_AFTER)
        wait = self._retry_in()
        retry_after = RETRY_AFTER if wait is None else max(1, math.ceil(wait))
        error = Unavailable(f"model '{self.name}' is not ready: {self.reason}", retry_after=retry_after)
        error.diagnosis = self.diagnosis
        return error

    def _removed(self) -> ModelNotFound:
        return ModelNotFound(f"model '{self.name}' was removed", param="model")

    def _serve_waiting(self) -> None:
        passed: list[Waiter] = []
        while self._waiting:
            future, avoid = waiter = self._waiting.popleft()
            if future.done():  # it was cancelled, and its task had no turn yet
                continue
            if (target := self._take(avoid)) is not None:
                future.set_result(target)
                continue
            passed.append(waiter)
            if not avoid:
                break  # nothing is free; else those behind may want what this one avoids
        self._waiting.extendleft(reversed(passed))

    def _leave(self, waiter: Waiter) -> None:
        """Out of the queue; a replica that was handed over in the same turn of the loop is given back."""
        future, _ = waiter
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif future.done() and not future.cancelled() and future.exception() is None:
            target = future.result()
            self.release(target, target.breaker.trial)

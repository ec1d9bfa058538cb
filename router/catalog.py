"""Where the fleet and the proxy meet: a model's name leads to a `Model`, and a model to its `Target`s.

The fleet adds and removes targets, the proxy claims and releases them. Claim and send are separate: a claim is one
synchronous decision, so a target that is taken away can never be given to a request in between; sending comes after.

All mutable state of a model is in three places: `_ready`, `_waiting` and each target's `in_flight`.
"""

import asyncio
import difflib
import heapq
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Protocol

from router.errors import ModelNotFound, Unavailable

RETRY_AFTER = 10
"""Seconds, the `Retry-After` of a model that did not get ready in time."""


class Pool(Protocol):
    """The proxy's connections to one target; the catalogue only tells it when the target has gone."""

    def close(self) -> None: ...


class Limits(Protocol):
    """A model's times in seconds, and the length of its queue."""

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


class Address:
    """Where a target listens. `prefix` comes before every path; `tls` for https."""

    __slots__ = ("host", "port", "prefix", "tls")

    def __init__(self, host: str, port: int, *, prefix: str = "", tls: bool = False) -> None:
        self.host, self.port, self.prefix, self.tls = host, port, prefix, tls

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self._bracketed}:{self.port}{self.prefix}"

    @property
    def authority(self) -> str:
        """What is sent as `Host`: without the port where it is the scheme's own."""
        return self._bracketed if self.port == (443 if self.tls else 80) else f"{self._bracketed}:{self.port}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


class Target:
    """One ready replica, as the proxy sees it.

    `served` is the engine's own name of the model. `paths` maps public paths to the engine's; None is a server
    elsewhere that has them all (`proxy/paths.py` says where). `key` is what the engine wants as its bearer token.
    `idle` is how long in seconds, and `reuse` for how many requests, the engine keeps a connection open (0: no limit on
    requests). `limit` bounds the requests in flight.
    """

    __slots__ = ("address", "id", "idle", "in_flight", "key", "limit", "paths", "pool", "removed", "reuse", "served")

    def __init__(
        self,
        id: str,  # noqa: A002
        address: Address,
        *,
        served: str,
        paths: Mapping[str, str] | None = None,
        key: str | None = None,
        idle: float = 4.0,
        reuse: int = 0,
        limit: int | None = None,
    ) -> None:
        self.id, self.address, self.served, self.paths, self.key = id, address, served, paths, key
        self.idle, self.reuse, self.limit = idle, reuse, limit
        self.in_flight = 0
        self.removed = False
        self.pool: Pool | None = None

    def __repr__(self) -> str:
        return f"<Target {self.id} {self.address} in_flight={self.in_flight}{' removed' if self.removed else ''}>"

    def close_if_idle(self) -> None:
        """Ends the connections of a removed target with its last request."""
        if self.removed and not self.in_flight and self.pool is not None:
            self.pool.close()
            self.pool = None


class Balance:
    """Ready targets by their requests in flight: the least busy one costs the same to find among one as among many,
    unless it is to be avoided or at its limit.

    `_levels[n]` holds those with n in flight, the one that has been there longest first, so that the replicas of an
    idle model take turns. No level below `_floor` holds any.
    """

    def __init__(self) -> None:
        self._levels: list[dict[Target, None]] = [{}]
        self._floor = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Target]:
        for level in self._levels:
            yield from level

    def add(self, target: Target) -> None:
        level = self._level(target.in_flight)
        if target not in level:
            level[target] = None
            self._size += 1
            self._floor = min(self._floor, target.in_flight)

    def remove(self, target: Target) -> None:
        level = self._levels[target.in_flight] if target.in_flight < len(self._levels) else {}
        if target in level:
            del level[target]
            self._size -= 1

    def claim(self, avoid: Collection[Target]) -> Target | None:
        """The one with the fewest in flight, within its limit and none of `avoid`, with one more."""
        levels = self._levels
        while self._floor < len(levels) - 1 and not levels[self._floor]:
            self._floor += 1
        for number in range(self._floor, len(levels)):
            level = levels[number]
            for target in level:
                if target not in avoid and (target.limit is None or target.in_flight < target.limit):
                    del level[target]
                    target.in_flight += 1
                    self._level(target.in_flight)[target] = None
                    return target
        return None

    def release(self, target: Target) -> None:
        """One less in flight; also of a target that is here no more."""
        level = self._level(target.in_flight)
        target.in_flight -= 1
        if target in level:
            del level[target]
            self._levels[target.in_flight][target] = None
            self._floor = min(self._floor, target.in_flight)

    def _level(self, in_flight: int) -> dict[Target, None]:
        while len(self._levels) <= in_flight:
            self._levels.append({})
        return self._levels[in_flight]


Waiter = tuple[asyncio.Future[Target], Collection[Target]]
"""A request without a replica, and those it does not want."""


class Model:
    """A public name, and the replicas that answer to it.

    `paths` are the public paths it serves (None: any). `outlook` is the fleet's word on when the model will be ready,
    for the message of a request that waited in vain.
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
        created: int = 0,
    ) -> None:
        self.name, self.kind, self.engine, self.limits, self.created = name, kind, engine, limits, created
        self.aliases = tuple(aliases)
        self.paths = None if paths is None else frozenset(paths)
        self._ready = Balance()
        self.outlook = "it was not started yet"
        self._waiting: deque[Waiter] = deque()

    def __repr__(self) -> str:
        return f"<Model {self.name} targets={self.targets} waiting={self.waiting}>"

    @property
    def targets(self) -> list[Target]:
        """The ready replicas, the next to be claimed first."""
        return list(self._ready)

    @property
    def ready(self) -> bool:
        return bool(self._ready)

    @property
    def in_flight(self) -> int:
        """How many requests are at its ready replicas."""
        return sum(target.in_flight for target in self._ready)

    @property
    def waiting(self) -> int:
        """How many requests wait for a replica."""
        return len(self._waiting)

    def add(self, target: Target) -> None:
        """A replica became ready."""
        self._ready.add(target)
        self._serve_waiting()

    def remove(self, target: Target) -> None:
        """No new request reaches `target` from here on; those in flight go on."""
        self._ready.remove(target)
        target.removed = True
        target.close_if_idle()

    def has_other(self, than: Collection[Target]) -> bool:
        """Whether a replica is ready, free or not, that is none of `than`."""
        return any(target not in than for target in self._ready)

    async def claim(self, avoid: Collection[Target] = ()) -> Target:
        """A replica, counted as taken; first come, first served. `Unavailable` after `limits.queue_timeout` seconds.

        Whoever claims must `release`. A task cancelled while it waits holds nothing.
        """
        return self.claim_now(avoid) or await self._wait(avoid)

    def claim_now(self, avoid: Collection[Target] = ()) -> Target | None:
        """A replica at once, or None: none is free, or others wait already. Never one of `avoid`."""
        return None if self._waiting else self._ready.claim(avoid)

    def release(self, target: Target) -> None:
        """Gives a claim back."""
        self._ready.release(target)
        target.close_if_idle()
        if self._waiting:
            self._serve_waiting()

    async def _wait(self, avoid: Collection[Target]) -> Target:
        if len(self._waiting) >= self.limits.queue_size:
            message = f"model '{self.name}' has {self.limits.queue_size} requests waiting already; try again later"
            raise Unavailable(message, code="queue_full", retry_after=5)
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

    def _late(self) -> Unavailable:
        if self._ready:
            message = f"all replicas of model '{self.name}' are at their limit; try again later"
            return Unavailable(message, code="model_busy", retry_after=RETRY_AFTER)
        return Unavailable(f"model '{self.name}' is not ready: {self.outlook}", retry_after=RETRY_AFTER)

    def _serve_waiting(self) -> None:
        passed: list[Waiter] = []
        while self._waiting:
            future, avoid = waiter = self._waiting.popleft()
            if future.done():  # it was cancelled, and its task had no turn yet
                continue
            if (target := self._ready.claim(avoid)) is not None:
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
        elif future.done() and not future.cancelled():
            self.release(future.result())


class Catalog:
    """Every public name, each with its model."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models = {model.name: model for model in models}
        self._names = {alias: model for model in self._models.values() for alias in (model.name, *model.aliases)}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def resolve(self, name: str) -> Model:
        """The model that answers to `name`, or `ModelNotFound` with the nearest names."""
        model = self._names.get(name)
        if model is None:
            raise ModelNotFound(f"The model '{name[:200]}' does not exist. {self._hint(name[:200])}", param="model")
        return model

    @property
    def names(self) -> list[str]:
        """All names that `resolve` takes, aliases included, in the file's order."""
        return list(self._names)

    def _hint(self, name: str) -> str:
        # difflib takes 55 us a name, so it gets only those that share most pairs of letters (3 us a name).
        wanted = _pairs(name)
        likely = heapq.nlargest(16, self._names, key=lambda other: len(wanted & _pairs(other)))
        near = difflib.get_close_matches(name, likely, n=3, cutoff=0.5) or sorted(self._names)[:3]
        return f"Nearest: {', '.join(near)}. GET /v1/models lists all." if near else "No model is declared."


def _pairs(name: str) -> set[tuple[str, str]]:
    return set(pairwise(name))

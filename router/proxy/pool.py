"""The connections to one target: kept, counted, closed before the engine closes them, given up when it is silent.

Its connections are in `_all`, those without an exchange in `idle` too; only what waits for an engine has a `deadline`.
"""

import asyncio
import errno
import ssl
from collections.abc import Callable

from router.catalog import Address, Limits, Model, Target
from router.proxy.again import Again
from router.proxy.named import signature
from router.proxy.upstream import ConnectFailed, Connection, Head
from router.proxy.way import Way

SWEEP = 1.0
"""Seconds between two looks for connections that are idle or silent for too long."""
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
"""What this machine has run out of; no fault of the engine's."""
MISSES = 16
"""Answers in a row whose heads were all different, until only every 64th is remembered."""


class Pool:
    """The connections to one address. `idle` and `reuse`: how long and how often the engine lets one be used.
    `signature`: the lines of headers that tell the client who has answered. `alive` as in `Target`."""

    def __init__(
        self,
        address: Address,
        limits: Limits,
        *,
        idle: float,
        reuse: int,
        signature: bytes,
        alive: Callable[[], bool] | None = None,
    ) -> None:
        self.alive = alive
        self.address, self.idle_time, self.reuse, self.signature = address, idle, reuse, signature
        self.use(limits)
        self.loop = asyncio.get_running_loop()
        self.idle: list[Connection] = []
        self._all: set[Connection] = set()
        self.again: Again[Head] | None = None
        """The head that the target's answers mostly have."""
        self.misses = 0
        self.ways: dict[str, Way] = {}
        """By public path."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = ssl.create_default_context() if address.tls else None

    @classmethod
    def of(cls, target: Target, model: Model) -> "Pool":
        """The target's own, made for its first request, with the model's limits as they are now."""
        pool = target.pool
        if pool is None:
            named = signature(model.name, target.id)
            pool = target.pool = cls(
                target.address, model.limits, idle=target.idle, reuse=target.reuse, signature=named, alive=target.alive
            )
        assert isinstance(pool, Pool)  # noqa: S101 - nobody else sets it
        if pool.limits is not model.limits:
            pool.use(model.limits)
        return pool

    def __repr__(self) -> str:
        return f"<Pool {self.address} idle={len(self.idle)} busy={len(self.busy)}>"

    def use(self, limits: Limits) -> None:
        """For requests that come from here on; what one in work waits for next has its time by them too."""
        self.limits = limits
        self.ways = {}
        self.connect_timeout = limits.connect_timeout
        self.response_timeout = limits.response_timeout
        self.stall_timeout = limits.stall_timeout

    @property
    def busy(self) -> set[Connection]:
        """Those with an exchange."""
        return self._all.difference(self.idle)

    def remember(self, data: bytes, head: Head) -> None:
        """An answer that came in one piece."""
        self.misses += 1
        if self.misses >= MISSES and self.misses % 64:
            return
        # Not one without a body, nor one behind an early hint, whose head is another.
        plain = head.status not in (204, 304) and data[9:12] == b"%d" % head.status
        if plain and head.length is not None and head.keep:
            again = Again.of(data, head)
            if again is not None and again.body_at(data):
                self.again = again

    def take(self) -> Connection | None:
        """An idle connection that the engine has no reason to close yet."""
        idle = self.idle
        if not idle:
            return None
        now = self.loop.time()
        while idle:
            connection = idle.pop()
            if connection.expires > now and not connection.closed:
                return connection
            connection.abort()
        return None

    async def open(self) -> Connection:
        """A new connection. Raises ConnectFailed."""
        factory: Callable[[], Connection] = lambda: Connection(self)  # noqa: E731
        try:
            async with asyncio.timeout(self.connect_timeout):
                _, connection = await self.loop.create_connection(
                    factory, self.address.host, self.address.port, ssl=self._tls
                )
        except TimeoutError:
            raise ConnectFailed(f"no connection within {self.connect_timeout:g} s") from None
        except OSError as error:
            raise ConnectFailed(error.strerror or str(error), own=error.errno in SHORTAGES) from None
        # The port of an engine that was just killed may be another program's already, which must get neither the
        # request nor the key. As long as the engine lives it is the engine's.
        if self.alive is not None and not self.alive():
            connection.abort()
            raise ConnectFailed("it has ended")
        if not connection.closed:
            self._all.add(connection)
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(SWEEP, self._sweep)
        return connection

    def give_back(self, connection: Connection) -> None:
        """After an exchange: kept for the next one if it can be, else closed, whatever state it is in."""
        connection.leave()
        if connection.reusable and not (self.reuse and connection.used >= self.reuse):
            connection.expires = self.loop.time() + self.idle_time
            self.idle.append(connection)
            return
        if not connection.closed:
            connection.abort()
        self.lost(connection)

    def lost(self, connection: Connection) -> None:
        """It is closed."""
        self._all.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def close(self) -> None:
        """Closes all that is idle. Exchanges go on to their end."""
        for connection in self.idle:
            connection.abort()
        self.idle.clear()
        self.idle_time = 0.0

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in [connection for connection in self.idle if connection.expires <= now]:
            self.idle.remove(connection)
            connection.abort()
        for connection in [connection for connection in self._all if connection.deadline <= now]:
            connection.fail("the engine is silent for too long", timed_out=True)
        self._sweeper = self.loop.call_later(SWEEP, self._sweep) if self._all else None

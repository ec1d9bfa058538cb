"""One replica that can be asked, and where."""

from collections.abc import Callable, Mapping
from typing import Protocol

from launchers.base import Dialect
from router.catalog.circuit import Breaker, Circuit


class Pool(Protocol):
    """The proxy's connections to one target; the catalogue only tells it when the target has gone."""

    def close(self) -> None: ...


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

    `served` is the engine's own name of the model, `names` its names of LoRA adapters by the public ones, `dialect`
    where it differs from what clients expect. `paths` maps public paths to the engine's; None is a server
    elsewhere that has them all (`proxy/paths.py` says where). `key` is what the engine wants as its bearer token.
    `idle` is how long in seconds, and `reuse` for how many requests, the engine keeps a connection open (0: no limit on
    requests). `limit` bounds the requests in flight.

    For the fleet: `heard` is when bytes of an answer last came, by `time.perf_counter`, 0.0 if none did. `suspect` is
    called each time that its requests' failures open its circuit; `on_idle` once, when it has been removed and its last
    request has ended, which may be while it is removed. From the fleet: `alive` says whether its process lives, None
    where nobody knows.
    """

    __slots__ = (
        "address", "alive", "breaker", "dialect", "heard", "id", "idle", "in_flight", "key", "limit", "names",
        "on_idle", "paths", "pool", "removed", "reuse", "served", "suspect",
    )  # fmt: skip

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
        self.names: Mapping[str, str] = {}
        self.dialect = Dialect()
        self.in_flight = 0
        self.removed = False
        self.pool: Pool | None = None
        self.breaker = Breaker()
        self.alive: Callable[[], bool] | None = None
        self.heard = 0.0
        self.suspect: Callable[[Target], None] | None = None
        self.on_idle: Callable[[], None] | None = None

    def __repr__(self) -> str:
        state = " removed" if self.removed else "" if self.circuit is Circuit.CLOSED else f" {self.circuit}"
        return f"<Target {self.id} {self.address} in_flight={self.in_flight}{state}>"

    @property
    def circuit(self) -> Circuit:
        """Whether it gets requests."""
        return self.breaker.circuit

    def close_if_idle(self) -> None:
        """Ends the connections of a removed target with its last request."""
        if not self.removed or self.in_flight:
            return
        if self.pool is not None:
            self.pool.close()
            self.pool = None
        on_idle, self.on_idle = self.on_idle, None
        if on_idle is not None:
            on_idle()

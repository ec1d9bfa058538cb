"""What is measured of each request: one `Record`, and sums of them by model, path and status.

The proxy records, the console shows. Recording is on the hot path, so a sum is a list of integers and no more; nothing
of the library that writes metrics down is loaded before somebody asks for them.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol

import msgspec

BATCH = 256
"""Requests that are written down at once."""
DELAY = 0.5
"""Seconds until fewer than that are."""


class Record(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request to the data plane, ended. Times in milliseconds, sizes of bodies in bytes.

    `model` is the file's name for it ("" when the request named none), `asked` the client's where that is another one;
    `key` the holder's name; `status` what the client was sent, 499 when it left before it was sent any; `error` the
    code of the router's own error, `client_gone` for a client that left. `retries`: the replicas that failed.
    `start_ms`: the wait while no replica was there, as it was starting; `queue_ms`: the wait for a free one;
    `first_ms`: until the first byte of the answer's body; `total_ms`: until its last; `own_ms`: what of it the router's
    own work took. `time` is when its head had come.
    """

    time: datetime
    id: str
    client: str = ""
    key: str = ""
    method: str
    path: str
    asked: str = ""
    model: str = ""
    target: str = ""
    status: int
    stream: bool = False
    error: str = ""
    retries: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    start_ms: float | None = None
    queue_ms: float
    first_ms: float | None = None
    total_ms: float
    own_ms: float


def ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


class Histogram:
    """Counts of seconds by upper bound; the last one has none."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def observe_all(self, seconds: list[float]) -> None:
        """All of them at once, which costs less than each as it comes."""
        bounds, counts = self.bounds, self.counts
        for each in seconds:
            counts[bisect_left(bounds, each)] += 1
        self.sum += sum(seconds)


DURATION = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
GAP = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
OWN = (0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25)


class Sums:
    """All requests of one model to one path."""

    __slots__ = (
        "completion_tokens", "duration", "gap", "own", "prompt_tokens", "queue", "request_bytes", "response_bytes",
        "statuses", "ttft",
    )  # fmt: skip

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.duration, self.ttft, self.queue = Histogram(DURATION), Histogram(DURATION), Histogram(DURATION)
        self.gap, self.own = Histogram(GAP), Histogram(OWN)
        self.request_bytes = self.response_bytes = 0
        self.prompt_tokens = self.completion_tokens = 0

    def add(self, record: Record) -> None:
        self.statuses[record.status] = self.statuses.get(record.status, 0) + 1
        self.duration.observe(record.total_ms * 1e-3)
        self.own.observe(record.own_ms * 1e-3)
        self.queue.observe(record.queue_ms * 1e-3)
        if record.stream and record.first_ms is not None:
            self.ttft.observe(record.first_ms * 1e-3)
        self.request_bytes += record.request_bytes
        self.response_bytes += record.response_bytes
        self.prompt_tokens += record.prompt_tokens or 0
        self.completion_tokens += record.completion_tokens or 0


class Ended(Protocol):
    """A request that has ended, and can still tell what was measured of it."""

    def record(self, epoch: float) -> tuple[Record, Sums]:
        """`epoch`: the seconds since 1970 at which `time.perf_counter` was 0."""


class Measures:
    """The sums, and who else is told of the records: many at a time, as what is done a hundred times in a row costs a
    third of what it costs between other work."""

    def __init__(self, listeners: Iterable[Callable[[list[Record]], None]] = ()) -> None:
        self._sums: dict[tuple[str, str], Sums] = {}
        self.listeners = tuple(listeners)
        self._ended: list[Ended] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def sums(self) -> dict[tuple[str, str], Sums]:
        """By model and path, up to now."""
        self.flush()
        return self._sums

    def of(self, model: str, path: str) -> Sums:
        sums = self._sums.get((model, path))
        if sums is None:
            sums = self._sums[model, path] = Sums()
        return sums

    def add(self, ended: Ended) -> None:
        self._ended.append(ended)
        if len(self._ended) >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self.flush)

    def flush(self) -> None:
        """Writes down all that has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ended, self._ended = self._ended, []
        if not ended:
            return
        records = []
        epoch = time.time() - time.perf_counter()
        for each in ended:
            record, sums = each.record(epoch)
            sums.add(record)
            records.append(record)
        for listener in self.listeners:
            listener(records)

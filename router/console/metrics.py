"""What Prometheus reads at `/metrics`.

The sums are kept by `router.measures`; here they are given their names and written down, by `prometheus_client`, which
is loaded when somebody asks for the first time.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from router import __version__
from router.catalog import Catalog, Model
from router.fleet.rows import Row
from router.measures import Histogram, Measures, Sums

if TYPE_CHECKING:
    from prometheus_client.core import Metric

HISTOGRAMS: dict[str, tuple[str, Callable[[Sums], Histogram]]] = {
    "router_request_duration_seconds": ("From a request's head to the end of its answer.", lambda sums: sums.duration),
    "router_time_to_first_token_seconds": ("The same to the first byte of a stream.", lambda sums: sums.ttft),
    "router_time_between_tokens_seconds": ("Between two pieces of a stream, as they came.", lambda sums: sums.gap),
    "router_queue_seconds": ("Waiting for a free replica.", lambda sums: sums.queue),
    "router_own_seconds": ("The router's own work on a request.", lambda sums: sums.own),
}
COUNTERS: dict[str, tuple[str, Callable[[Sums], int]]] = {
    "router_prompt_tokens": ("Tokens of prompts, as the engines count them.", lambda sums: sums.prompt_tokens),
    "router_completion_tokens": ("Tokens of answers, likewise.", lambda sums: sums.completion_tokens),
    "router_request_bytes": ("Bytes of requests' bodies.", lambda sums: sums.request_bytes),
    "router_response_bytes": ("Bytes of answers' bodies.", lambda sums: sums.response_bytes),
}

Items = list[tuple[tuple[str, str], Sums]]
"""By model and path."""


class Load(NamedTuple):
    """A model as it is: its requests in flight, those that wait, its circuits by target."""

    model: str
    in_flight: int
    waiting: int
    failures: int
    openings: int
    circuits: dict[str, str]


def _load(model: Model) -> Load:
    circuits = {target.id: str(target.circuit) for target in model.targets}
    return Load(model.name, model.in_flight, model.waiting, model.failures, model.openings, circuits)


class Metrics:
    """`rows`: the engines, as `router ps` shows them."""

    def __init__(self, measures: Measures, catalog: Catalog, rows: Callable[[], list[Row]]) -> None:
        self._measures, self._catalog, self._rows = measures, catalog, rows

    async def answer(self, request: Request) -> Response:
        sums, rows = list(self._measures.sums.items()), self._rows()  # they are the loop's, and so are the loads
        loads = [_load(model) for model in self._catalog]
        accept = request.headers.get("accept", "")
        text, kind = await anyio.to_thread.run_sync(self._render, sums, loads, rows, accept)
        return Response(text, headers={"content-type": kind})

    def _render(self, sums: Items, loads: list[Load], rows: list[Row], accept: str) -> tuple[bytes, str]:
        from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415 - 40 ms and 6 MiB
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(lambda: self._collect(sums, loads, rows)))
        ProcessCollector(registry=registry)
        encode, kind = choose_encoder(accept)
        return encode(registry), kind

    def _collect(self, sums: Items, loads: list[Load], rows: list[Row]) -> "Iterator[Metric]":
        from prometheus_client.core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        requests = CounterMetricFamily("router_requests", "Requests answered.", labels=("model", "path", "status"))
        for labels, each in sums:
            for status, count in list(each.statuses.items()):
                requests.add_metric((*labels, str(status)), count)
        yield requests
        for name, (text, histogram) in HISTOGRAMS.items():
            family = HistogramMetricFamily(name, text, labels=("model", "path"))
            for labels, each in sums:
                if any((found := histogram(each)).counts):
                    family.add_metric(labels, *_buckets(found))
            yield family
        for name, (text, value) in COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=("model", "path"))
            for labels, each in sums:
                counter.add_metric(labels, value(each))
            yield counter
        in_flight = GaugeMetricFamily("router_requests_in_flight", "Requests at the engines.", labels=("model",))
        waiting = GaugeMetricFamily("router_requests_waiting", "Requests that wait for a replica.", labels=("model",))
        failures = CounterMetricFamily("router_engine_failures", "Requests an engine failed at.", labels=("model",))
        openings = CounterMetricFamily(
            "router_circuit_openings", "Times an engine got no more requests.", labels=("model",)
        )
        circuit = GaugeMetricFamily("router_target_circuit", "1 for the state of a circuit.", labels=_TARGET)
        for load in loads:
            in_flight.add_metric((load.model,), load.in_flight)
            waiting.add_metric((load.model,), load.waiting)
            failures.add_metric((load.model,), load.failures)
            openings.add_metric((load.model,), load.openings)
            for target, each_state in load.circuits.items():
                circuit.add_metric((load.model, target, each_state), 1)
        yield from (in_flight, waiting, failures, openings, circuit)
        state = GaugeMetricFamily("router_engine_state", "1 for the state a replica is in.", labels=_REPLICA)
        restarts = CounterMetricFamily("router_engine_restarts", "Starts after a failure.", labels=_REPLICA[:3])
        told = set[tuple[str, int]]()
        for row in rows:
            if (row.model, row.replica) in told:
                continue  # while one engine follows another the first is the one that serves
            told.add((row.model, row.replica))
            replica = (row.model, str(row.replica), row.engine)
            state.add_metric((*replica, row.state), 1)
            restarts.add_metric(replica, row.restarts)
        yield from (state, restarts)
        info = GaugeMetricFamily("router_info", "The router's version.", labels=("version",))
        info.add_metric((__version__,), 1)
        yield info


_REPLICA = ("model", "replica", "engine", "state")
_TARGET = ("model", "target", "state")


class _Collector:
    def __init__(self, collect: "Callable[[], Iterator[Metric]]") -> None:
        self.collect = collect


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Each bound with what is below it, as Prometheus counts, and the sum."""
    total, buckets = 0, list[tuple[str, float]]()
    for bound, count in zip((*histogram.bounds, "+Inf"), list(histogram.counts), strict=True):
        total += count
        buckets.append((str(bound), total))
    return buckets, histogram.sum

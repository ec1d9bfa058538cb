"""What the router has set itself, each goal with the figure that was measured: reached or not is computed here."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.engines import CASES
from bench.figures import Results
from bench.stats import Stats, Values, engine_ratio, middle

ROUTER = "router"
FLAT = 1.05
"""Times the one that the cost of the many may be where it is called flat."""


@dataclass(frozen=True)
class Goal:
    """`figure` None: not measured. `unit` follows the numbers."""

    text: str
    limit: float
    figure: float | None
    unit: str = ""
    least: bool = False

    @property
    def reached(self) -> bool | None:
        if self.figure is None:
            return None
        return self.figure >= self.limit if self.least else self.figure <= self.limit


def goals(results: Results) -> dict[str, list[Goal]]:
    stats = Stats(results.samples)
    return {
        "1. The cost of a request and of a chunk": list(_cost(stats)),
        "2. Latency": list(_latency(stats)),
        "3. 4,000 streams": list(_streams(stats)),
        "4. Large bodies": list(_bodies(stats)),
        "5. The cost does not grow with the file": list(_flat(stats)),
        "6. A real engine": list(_engine(results)),
        "7. Growth": list(_growth(results)),
        "8. An engine's start": list(_start(results)),
    }


def _cost(stats: Stats) -> Iterator[Goal]:
    for scenario, what, others in (
        ("saturated", "CPU of a request of 1.4 KB", (("vllm-router", 1.0), ("nginx", 2.2))),
        ("streams 500", "CPU of a chunk, 500 streams at 20 ms a token", (("vllm-router", 1.0), ("nginx", 1.4))),
    ):
        for other, limit in others:
            yield Goal(f"{what}, times that of {other}", limit, _ratio(stats, scenario, other), "×")


def _latency(stats: Stats) -> Iterator[Goal]:
    added = middle(stats.added("stream", ROUTER, "first p50"))
    yield Goal("One stream: what is added to the time to the first token, p50", 0.25, added, " ms")
    crowd = "streams 500"
    limit = middle(stats.values(crowd, "nginx", "first p99"))
    if limit is not None:
        first = middle(stats.values(crowd, ROUTER, "first p99"))
        yield Goal("500 streams: time to the first token, p99, no worse than nginx's", limit, first, " ms")
    gap = middle(stats.added(crowd, ROUTER, "gap p99"))
    yield Goal("500 streams: what is added to the gap between tokens, p99", 2.0, gap, " ms")


def _streams(stats: Stats) -> Iterator[Goal]:
    scenario = "streams 4,000"
    yield Goal("Events lost, the worst round", 0, _worst(stats.values(scenario, ROUTER, "lost")))
    yield Goal("Streams that failed, the worst round", 0, _worst(stats.values(scenario, ROUTER, "errors")))
    yield Goal("Memory at its peak", 100, _worst(stats.values(scenario, ROUTER, "peak")), " MiB")


def _bodies(stats: Stats) -> Iterator[Goal]:
    ratio = _ratio(stats, "body 250 KB", "vllm-router")
    yield Goal("CPU of a request of 250 KB, times that of vllm-router", 0.6, ratio, "×")
    one = _worst(stats.values("body 10 MB", ROUTER, "grown"))
    yield Goal("Peak of memory above idle with a body of 10 MB, in bodies", 2.5, one, "×")
    four = _worst(stats.values("body 10 MB, 4 at once", ROUTER, "grown"))
    yield Goal("The same with four at once, in bodies of each", 2.5, None if four is None else four / 4, "×")


def _flat(stats: Stats) -> Iterator[Goal]:
    for scenario, many, one in (("catalogue", "1,000 models", "1 model"), ("replicas", "64 replicas", "1 replica")):
        ratio = middle(stats.ratio(scenario, many, one, "cost"))
        yield Goal(f"CPU of a request with {many}, times that with {one}", FLAT, ratio, "×")


def _engine(results: Results) -> Iterator[Goal]:
    for case in CASES:
        if case.name.endswith("16 at once") and case.name.startswith(("short", "4 tokens")):
            for other, how in (("xinference", "by itself"), ("xinference, 16 slots", "with 16 slots")):
                ratio = middle(engine_ratio(results.engines, case.name, ROUTER, other))
                yield Goal(f"Requests a second, times Xinference's {how} ({case.name})", 30, ratio, "×", least=True)
    for case in CASES:
        if case.name.endswith("16 at once") and case.name.startswith("long"):
            ratio = middle(engine_ratio(results.engines, case.name, ROUTER, "bare"))
            share = None if ratio is None else ratio * 100
            yield Goal(f"Requests a second, of the bare engine's ({case.name})", 90, share, " %", least=True)


def _growth(results: Results) -> Iterator[Goal]:
    soak = results.soak
    spread = max(soak.memory) / min(soak.memory) if soak and soak.memory else None
    length = f"{soak.seconds:,.0f} s" if soak else "600 s"
    yield Goal(f"Memory over {length} at half load, largest by smallest", 1.05, spread, "×")


def _start(results: Results) -> Iterator[Goal]:
    """The best of each, as whatever else the machine does only ever adds."""
    start = results.start
    added = min(start.router) - min(start.bare) if start else None
    yield Goal("From `router up` to `/ready`, above the engine's own time, the best of some starts", 0.5, added, " s")


def _ratio(stats: Stats, scenario: str, other: str) -> float | None:
    return middle(stats.ratio(scenario, ROUTER, other, "cost"))


def _worst(values: Values) -> float | None:
    return max(values.values()) if values else None

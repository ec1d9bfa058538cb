"""From samples to figures: medians over rounds, spreads, and ratios that were taken within a round."""

from collections.abc import Callable, Mapping
from statistics import median

from bench.figures import Engine, Load, Quantiles, Sample
from bench.rounds import DIRECT, DISTURBED

Values = Mapping[int, float]
"""A figure of each round."""

MIB = 1 << 20


def _cost(sample: Sample, load: Load) -> float:
    return sample.cpu / (load.events or load.requests)


def _speed(_: Sample, load: Load) -> float:
    return load.requests / load.seconds


def _time(pick: Callable[[Load], Quantiles | None], share: str) -> Callable[[Sample, Load], float]:
    def figure(_: Sample, load: Load) -> float:
        quantiles = pick(load)
        if quantiles is None:
            raise ZeroDivisionError
        return float(getattr(quantiles, share)) / 1e3

    return figure


FIGURES: dict[str, Callable[[Sample, Load], float]] = {
    "cost": _cost,
    "speed": _speed,
    "latency p50": _time(lambda load: load.latency, "p50"),
    "latency p99": _time(lambda load: load.latency, "p99"),
    "first p50": _time(lambda load: load.first, "p50"),
    "first p99": _time(lambda load: load.first, "p99"),
    "gap p50": _time(lambda load: load.gap, "p50"),
    "gap p99": _time(lambda load: load.gap, "p99"),
    "delay p50": _time(lambda load: load.delay, "p50"),
    "delay p99": _time(lambda load: load.delay, "p99"),
    "before": lambda sample, _: sample.before / MIB,
    "peak": lambda sample, _: sample.peak / MIB,
    "after": lambda sample, _: sample.after / MIB,
    "grown": lambda sample, _: (sample.peak - sample.before) / 1e7,
    "lost": lambda _, load: load.lost,
    "errors": lambda _, load: sum(load.errors.values()),
}
"""cost: µs of CPU a request, or an event where there are streams. speed: requests a second. Times in ms, memory in
MiB; grown: peak above idle, in bodies of 10 MB."""


UNDISTURBED = {"cost", "before", "peak", "after", "grown", "lost", "errors"}


class Stats:
    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples

    def values(self, scenario: str, target: str, figure: str) -> Values:
        """Rounds that went wrong have no value, except for what counts what went wrong. Of a run that was disturbed
        only what another's work does not change counts."""
        found = {}
        for sample in self._of(scenario, target):
            if sample.others > DISTURBED and figure not in UNDISTURBED:
                continue
            if sample.load and (not sample.fault or figure in ("lost", "errors")):
                try:
                    found[sample.round] = FIGURES[figure](sample, sample.load)
                except ZeroDivisionError:  # nothing was answered
                    continue
        return found

    def ratio(self, scenario: str, target: str, other: str, figure: str) -> Values:
        return {n: a / b for n, (a, b) in self._pairs(scenario, target, other, figure).items() if b}

    def added(self, scenario: str, target: str, figure: str, other: str = DIRECT) -> Values:
        return {n: a - b for n, (a, b) in self._pairs(scenario, target, other, figure).items()}

    def faults(self, scenario: str, target: str) -> list[str]:
        """What went wrong, and which rounds were disturbed."""
        samples = self._of(scenario, target)
        disturbed = [str(sample.round + 1) for sample in samples if sample.others > DISTURBED]
        note = [f"disturbed in round {', '.join(disturbed)}, whose times and speed do not count"] if disturbed else []
        return sorted({sample.fault for sample in samples if sample.fault}) + note

    def targets(self, scenario: str) -> list[str]:
        return list(dict.fromkeys(sample.target for sample in self.samples if sample.scenario == scenario))

    def _of(self, scenario: str, target: str) -> list[Sample]:
        return [sample for sample in self.samples if (sample.scenario, sample.target) == (scenario, target)]

    def _pairs(self, scenario: str, target: str, other: str, figure: str) -> dict[int, tuple[float, float]]:
        mine, theirs = self.values(scenario, target, figure), self.values(scenario, other, figure)
        return {number: (mine[number], theirs[number]) for number in mine if number in theirs}


def middle(values: Values) -> float | None:
    return median(values.values()) if values else None


def engine_values(engines: list[Engine], case: str, target: str, figure: str) -> Values:
    """As `Stats.values`, of the runs with a real engine."""
    samples = [Sample(e.case, e.target, e.round, e.load, fault=e.fault) for e in engines]
    return Stats(samples).values(case, target, figure)


def engine_ratio(engines: list[Engine], case: str, target: str, other: str) -> Values:
    """Of requests a second."""
    mine, theirs = (engine_values(engines, case, name, "speed") for name in (target, other))
    return {n: mine[n] / theirs[n] for n in mine if theirs.get(n)}

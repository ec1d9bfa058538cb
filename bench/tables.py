"""The tables of the report, in Markdown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.engines import CASES
from bench.figures import Results
from bench.goals import ROUTER
from bench.rounds import DIRECT
from bench.stats import Stats, Values, engine_ratio, engine_values, middle

Column = tuple[str, Callable[[str], Values], int]
"""Its head, its figures by target, and how many decimals they are shown with."""


def cell(values: Values, decimals: int) -> str:
    """The median, and the least and the most of all rounds."""
    value = middle(values)
    if value is None:
        return "–"
    text = f"{value:,.{decimals}f}"
    if len(values) < 2:
        return text
    return f"{text} ({min(values.values()):,.{decimals}f} … {max(values.values()):,.{decimals}f})"


def table(first: str, rows: Sequence[str], columns: Sequence[Column], names: Mapping[str, str]) -> list[str]:
    lines = [f"| {first} | " + " | ".join(head for head, _, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = " | ".join(cell(figure(row), decimals) for _, figure, decimals in columns)
        lines.append(f"| {names.get(row, row)} | {cells} |")
    return lines


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    scenarios: Mapping[str, str]
    """What its columns begin with, and the scenario they are of."""
    columns: Sequence[tuple[str, str, str, int]]
    """Key of the scenario, kind (own, added, nginx, vllm-router), figure, decimals."""


HEADS = {
    "cost": "CPU µs",
    "speed": "requests/s",
    "latency p50": "latency p50 ms",
    "latency p99": "latency p99 ms",
    "first p50": "first token p50 ms",
    "first p99": "first token p99 ms",
    "gap p99": "gap p99 ms",
    "delay p50": "event under way p50 ms",
    "delay p99": "event under way p99 ms",
    "before": "idle MiB",
    "peak": "peak MiB",
    "after": "after MiB",
    "grown": "peak above idle, in bodies",
    "lost": "events lost",
}

_RATIOS = ("nginx", "vllm-router")


def _costs(scenario: str) -> list[tuple[str, str, str, int]]:
    return [(scenario, "own", "cost", 1), *((scenario, other, "cost", 2) for other in _RATIOS)]


SECTIONS = (
    Section(
        "Requests of 1.4 KB, answers of 0.7 KB",
        "As many as are answered on 32 connections, then 150 a second on 8: what a request costs and takes when the "
        "core is busy and when it mostly sleeps. A wake-up costs more than a request, so the CPU of the second is "
        "larger for all of them.",
        {"saturated": "", "paced": "150/s: "},
        [
            *_costs("saturated"),
            ("saturated", "own", "speed", 0),
            ("saturated", "own", "before", 0),
            ("saturated", "own", "peak", 0),
            ("saturated", "own", "after", 0),
            ("paced", "own", "cost", 0),
            ("paced", "added", "latency p50", 2),
            ("paced", "added", "latency p99", 2),
        ],
    ),
    Section(
        "One stream",
        "One stream after the other, five events each, 4 ms between them.",
        {"stream": ""},
        [
            ("stream", "added", "first p50", 2),
            ("stream", "added", "first p99", 2),
            ("stream", "added", "gap p99", 2),
            ("stream", "added", "delay p50", 2),
            ("stream", "added", "delay p99", 2),
        ],
    ),
    Section(
        "500 streams, a token every 20 ms",
        "25,000 events a second of 240 bytes each, in streams of 150 that follow one another. The CPU is that of an "
        "event, with its share of the stream's request.",
        {"streams 500": ""},
        [
            *_costs("streams 500"),
            ("streams 500", "added", "first p50", 2),
            ("streams 500", "own", "first p99", 2),
            ("streams 500", "own", "gap p99", 2),
            ("streams 500", "added", "delay p50", 2),
            ("streams 500", "added", "delay p99", 2),
        ],
    ),
    Section(
        "4,000 streams, a token every 250 ms",
        "16,000 events a second, in streams of 24 that follow one another. Each stream has to get all of its events, "
        "in order, and its `[DONE]`. Every target was started just for this.",
        {"streams 4,000": ""},
        [
            ("streams 4,000", "own", "lost", 0),
            ("streams 4,000", "own", "cost", 1),
            ("streams 4,000", "own", "first p99", 1),
            ("streams 4,000", "own", "gap p99", 1),
            ("streams 4,000", "own", "before", 0),
            ("streams 4,000", "own", "peak", 0),
            ("streams 4,000", "own", "after", 0),
        ],
    ),
    Section(
        "Bodies of 250 KB, and large answers",
        "A long conversation on 8 connections; then embeddings of 256 inputs, answers of 3.6 MB, on 4.",
        {"body 250 KB": "250 KB: ", "embeddings": "embeddings: "},
        [
            *_costs("body 250 KB"),
            ("body 250 KB", "own", "speed", 0),
            *_costs("embeddings"),
            ("embeddings", "own", "speed", 0),
        ],
    ),
    Section(
        "Bodies of 10 MB",
        "An image in base64, one request at a time and four at once. Every target was started just for this; the peak "
        "of memory above what it had before is in bodies of 10 MB.",
        {"body 10 MB": "", "body 10 MB, 4 at once": "4 at once: "},
        [
            *_costs("body 10 MB"),
            ("body 10 MB", "own", "grown", 1),
            ("body 10 MB", "own", "latency p50", 1),
            ("body 10 MB, 4 at once", "own", "cost", 0),
            ("body 10 MB, 4 at once", "own", "grown", 1),
        ],
    ),
)

VARIANTS = (
    Section(
        "1 and 1,000 models",
        "This router alone, requests of 1.4 KB on 32 connections.",
        {"catalogue": ""},
        [("catalogue", "own", "cost", 1), ("catalogue", "own", "speed", 0), ("catalogue", "own", "peak", 0)],
    ),
    Section(
        "1 and 64 replicas",
        "This router alone, which starts the stubs as `engine: command`. 1,000 requests a second on 32 connections: at "
        "saturation 64 stubs on one core would set the pace. The CPU is that of the router's own process.",
        {"replicas": ""},
        [("replicas", "own", "cost", 1), ("replicas", "own", "latency p99", 2), ("replicas", "own", "peak", 0)],
    ),
)


def section(part: Section, stats: Stats, names: Mapping[str, str]) -> list[str]:
    targets = list(dict.fromkeys(name for scenario in part.scenarios for name in stats.targets(scenario)))
    if not targets:
        return []
    targets.sort(key=lambda name: (name != DIRECT, name == ROUTER))  # the stub alone first, this router last
    columns = [_column(part, stats, *spec) for spec in part.columns]
    faults = [
        f"- {names.get(name, name)}{', ' + scenario if len(part.scenarios) > 1 else ''}: {fault}"
        for name in targets
        for scenario in part.scenarios
        for fault in stats.faults(scenario, name)
    ]
    notes = ["", *faults] if faults else []
    return [f"### {part.title}", "", part.text, "", *table("", targets, columns, names), *notes, ""]


def _column(part: Section, stats: Stats, scenario: str, kind: str, figure: str, decimals: int) -> Column:
    head = part.scenarios[scenario] + HEADS[figure]
    if kind == "own":
        return head, lambda name: _own(stats, scenario, name, figure), decimals
    if kind == "added":
        return "added " + head, lambda name: _added(stats, scenario, name, figure), decimals
    return f"{part.scenarios[scenario]}× {kind}", lambda name: _ratio(stats, scenario, name, kind, figure), decimals


_OF_A_PROCESS = {"cost", "before", "peak", "after", "grown"}


def _own(stats: Stats, scenario: str, name: str, figure: str) -> Values:
    return {} if name == DIRECT and figure in _OF_A_PROCESS else stats.values(scenario, name, figure)


def _added(stats: Stats, scenario: str, name: str, figure: str) -> Values:
    return {} if name == DIRECT else stats.added(scenario, name, figure)


def _ratio(stats: Stats, scenario: str, name: str, other: str, figure: str) -> Values:
    return {} if name == DIRECT else stats.ratio(scenario, name, other, figure)


def engine_table(results: Results, target: str, names: Mapping[str, str]) -> list[str]:
    """What one target did, a row for each case."""
    engines = results.engines
    done = {engine.case for engine in engines}
    columns: list[Column] = [
        ("requests/s", lambda case: engine_values(engines, case, target, "speed"), 1),
        ("latency p50 ms", lambda case: engine_values(engines, case, target, "latency p50"), 1),
        ("latency p99 ms", lambda case: engine_values(engines, case, target, "latency p99"), 1),
    ]
    if target != "bare":
        columns.append(("× bare", lambda case: engine_ratio(engines, case, target, "bare"), 2))
    if target != "xinference":
        columns.append(("× Xinference", lambda case: engine_ratio(engines, case, target, "xinference"), 1))
    return table(names.get(target, target), [case.name for case in CASES if case.name in done], columns, {})

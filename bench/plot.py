"""The picture of the report."""

from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import Results
from bench.rounds import DIRECT
from bench.stats import Stats, engine_values, middle

PANELS = (
    ("saturated", "cost", "CPU of a request of 1.4 KB, µs"),
    ("streams 500", "cost", "CPU of a chunk, 500 streams, µs"),
    ("body 250 KB", "cost", "CPU of a request of 250 KB, µs"),
    ("saturated", "speed", "requests a second, one core"),
    ("streams 4,000", "peak", "memory at 4,000 streams, MiB"),
)
if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, OTHERS = "#d1495b", "#9aa5b1"

Bars = dict[str, float]


def draw(results: Results, file: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415  # a second to import, and only for this

    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 6.5), layout="constrained")
    for axis, (title, bars) in zip(axes.flat, _panels(results), strict=True):
        axis.set_title(title, fontsize=10, loc="left")
        if not bars:  # not measured
            axis.set_axis_off()
            continue
        names = list(bars)[::-1]
        drawn = axis.barh(names, [bars[name] for name in names], color=[_colour(name) for name in names])
        axis.bar_label(drawn, fmt=_label, padding=3)
        _scale(axis, list(bars.values()))
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.xaxis.set_visible(False)  # each bar has its number
    figure.suptitle("Medians of all rounds. RESULTS.md has the spread and the conditions.", fontsize=10)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _scale(axis: "Axes", values: list[float]) -> None:
    """Logarithmic where the shortest bar could not be seen otherwise."""
    if max(values) < 30 * min(values):
        axis.set_xlim(0, max(values) * 1.2)
        return
    axis.set_xscale("log")
    axis.set_xlim(min(values) / 3, max(values) * 6)
    axis.set_title(f"{axis.get_title(loc='left')} (log.)", fontsize=10, loc="left")


def _panels(results: Results) -> list[tuple[str, Bars]]:
    stats = Stats(results.samples)
    panels = []
    for scenario, figure, title in PANELS:
        names = [name for name in stats.targets(scenario) if name != DIRECT or figure == "speed"]
        panels.append((title, _bars({name: middle(stats.values(scenario, name, figure)) for name in names})))
    case = "short, whole, 16 at once"
    engines = {name: middle(engine_values(results.engines, case, name, "speed")) for name in _engines(results)}
    return [*panels, ("requests a second, real engine, 16 at once", _bars(engines))]


def _engines(results: Results) -> list[str]:
    return list(dict.fromkeys(engine.target for engine in results.engines))


def _bars(values: dict[str, float | None]) -> Bars:
    found = {name: value for name, value in values.items() if value}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _colour(name: str) -> str:
    return OURS if name == "router" else OTHERS


def _label(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"

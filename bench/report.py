"""RESULTS.md, from the raw figures alone."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import plot
from bench.figures import Conditions, Results, Soak
from bench.goals import Goal, goals
from bench.rounds import DISTURBED
from bench.stats import Stats
from bench.tables import SECTIONS, VARIANTS, engine_table, section

FILE = Path(__file__).with_name("RESULTS.md")
SOAK = Path(__file__).with_name("SOAK.md")
PICTURE = Path(__file__).with_name("results.png")

NAMES = {
    "direct": "direct (no router)",
    "router": "**this router**",
    "bare": "llama.cpp bare",
    "xinference": "Xinference",
    "xinference, 16 slots": "Xinference, 16 slots, 1 thread",
    "caddy": "Caddy",
    "litellm": "LiteLLM",
}

INTRO = """\
# What it costs

Made by `make bench` from `results.json`; do not edit.

```sh
make bench                        # everything, some 25 minutes; the first time also the installs, below .bench/
make bench ARGS=--quick           # one round of the most important scenarios, some 5 minutes
make bench ARGS="--peers nginx,vllm-router --scenarios 'saturated,streams 500' --rounds 5"
make bench-start                  # what the router adds to an engine's start
make bench-soak                   # ten minutes at half load: SOAK.md (SECONDS=60 for one)
.venv/bin/python -m bench report  # this page and the picture anew from results.json
```

A cell is the median of all rounds, with the least and the most in parentheses. Ratios and what is `added` to the same
question asked to the stub directly are taken within a round, then their median. CPU is that of the router's processes
alone. The stub answers 404 to any name but its own, and the load checks every answer: status, length, the name of the
model, number and order of events, `[DONE]`; a run with a wrong answer has no figures. Each event carries the time at
which it was sent: `under way` is from the stub to the client. A run at a fixed rate counts from when a request was due.
"""


ENGINES = """\
llama.cpp's server with the demo's tiny chat model, 16 slots, one thread, on a core of its own; the load and this router
share the other. Xinference runs the same model by the same library and may use both cores: once as it launches a model
by itself (as many slots and threads as there are cores), once with the slots and the thread of the bare engine. Short
answers have 16 tokens, long ones 256: there the engine is the limit. Connections are kept, except where it says so."""


def write(results: Results) -> None:
    PICTURE.unlink(missing_ok=True)
    if results.samples:
        plot.draw(results, PICTURE)
    FILE.write_text("\n".join(_lines(results)).rstrip() + "\n")
    if results.soak:
        SOAK.write_text("\n".join(_soak(results.soak)).rstrip() + "\n")


def _lines(results: Results) -> Iterator[str]:
    yield INTRO
    if PICTURE.exists():
        yield from ("![CPU, requests a second and memory of each](results.png)", "")
    yield from _goals(results)
    stats = Stats(results.samples)
    if results.samples:
        yield from ("## Beside others, before a stub", "")
        for part in (*SECTIONS, *VARIANTS):
            yield from section(part, stats, NAMES)
    yield from _engines(results)
    if results.conditions:
        yield from _conditions(results, results.conditions)


def _goals(results: Results) -> Iterator[str]:
    yield from ("## Goals", "")
    for title, items in goals(results).items():
        yield from (f"**{title}**", "")
        yield from (_goal(goal) for goal in items)
        yield ""


def _goal(goal: Goal) -> str:
    bound = f"{'at least' if goal.least else 'at most'} {goal.limit:,.4g}{goal.unit}"
    if goal.figure is None:
        return f"- {goal.text}: {bound}; not measured"
    verdict = "reached" if goal.reached else "**not reached**"
    return f"- {goal.text}: {bound}; measured {goal.figure:,.3g}{goal.unit}: {verdict}"


def _engines(results: Results) -> Iterator[str]:
    if not results.engines:
        return
    yield from ("## A real engine", "")
    yield f"{ENGINES} {results.engine_date}."
    if results.engine_versions:
        yield ", ".join(f"{name} {number}" for name, number in results.engine_versions.items()) + "."
    yield ""
    for target in dict.fromkeys(engine.target for engine in results.engines):
        yield from (*engine_table(results, target, NAMES), "")
    for engine in results.engines:
        if engine.fault:
            yield f"- {NAMES.get(engine.target, engine.target)}, {engine.case}: {engine.fault}"
    for name, why in results.engine_missing.items():
        yield f"- {NAMES.get(name, name)} is not there: {why}"
    yield ""


def _soak(soak: Soak) -> Iterator[str]:
    mib = [size / (1 << 20) for size in soak.memory]
    yield from ("# Growth", "", "Made by `make bench-soak`; do not edit.", "")
    yield f"{soak.date}, {soak.version}: {soak.rate:,.0f} requests a second, half of what it can do,"
    yield f"{soak.requests:,} requests, {sum(soak.errors.values())} errors. Memory every {soak.every:g} s, once warm:"
    yield f"{mib[0]:.2f} MiB first, {mib[-1]:.2f} MiB last, {min(mib):.2f} to {max(mib):.2f} MiB: largest by smallest"
    yield f"{max(mib) / min(mib):.3f}."
    yield from ("", "```", *_wrapped([f"{size:.2f}" for size in mib]), "```", "")


def _wrapped(words: list[str], each: int = 15) -> Iterator[str]:
    for start in range(0, len(words), each):
        yield " ".join(words[start : start + each])


def _others(results: Results) -> str:
    shares = sorted(sample.others for sample in results.samples if sample.load)
    return f"{median(shares):.1%} of one core (median), {shares[-1]:.0%} at most" if shares else "not measured"


def _conditions(results: Results, conditions: Conditions) -> Iterator[str]:
    yield from ("## Conditions", "")
    yield f"- {conditions.date}, `{conditions.command}`, {conditions.rounds} rounds, {conditions.minutes:.0f} minutes"
    yield f"- {conditions.cpu}, {conditions.cores} cores, {conditions.memory / (1 << 30):.0f} GiB; {conditions.system}"
    yield f"- Python {conditions.python}; load and stub: {conditions.go}, `GOMAXPROCS=1`"
    yield "- The target on core 0 (`taskset -c 0`), stub and load on core 1; in each round each scenario asks one after"
    yield "  the other; all of them run, those that are not measured are stopped (SIGSTOP)"
    yield f"- What else ran on the machine meanwhile: {_others(results)}. A run beside which something else"
    yield f"  took more than {DISTURBED:.0%} of a core is done again, once; the one disturbed least counts"
    yield "- CPU: `/proc/PID/task/*/schedstat`; memory: `VmRSS`, its peak `VmHWM`, set back before each scenario"
    yield ""
    for name, version in conditions.versions.items():
        yield f"- {NAMES.get(name, name)} {version}: {conditions.about.get(name, '')}"
    for name, why in conditions.missing.items():
        yield f"- {NAMES.get(name, name)} is not there: {why}"
    yield from (
        "",
        "Started and asked by (`bench/peers.py` and `bench/ours.py` have the files that they name):",
        "",
        "```",
    )
    yield from (f"{name:23} {line}" for name, line in conditions.commands.items())
    yield from ("```", "")

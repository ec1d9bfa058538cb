"""The figures of a run, as a table; docs/reliability.md has those of the last long one between two marks."""

from collections.abc import Iterator
from pathlib import Path

from chaos.run import Result

BEGIN, END = "<!-- chaos: begin -->", "<!-- chaos: end -->"


def summary(result: Result) -> str:
    return "\n".join([*_table(result), "", *_words(result)])


def put(result: Result, page: Path) -> None:
    """Puts the figures between the marks of `page`."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{page.name} has lost its marks"
    page.write_text(f"{before}{BEGIN}\n{summary(result)}\n{END}{after}")


def _table(result: Result) -> Iterator[str]:
    yield "| fault | times | all ready again after, median | p99 | longest |"
    yield "|---|---|---|---|---|"
    for kind, times in sorted(result.recoveries.items()):
        figures = " | ".join(f"{_quantile(times, share):.1f} s" for share in (0.5, 0.99, 1.0))
        yield f"| {kind.replace('_', ' ')} | {len(times)} | {figures} |"


def _words(result: Result) -> Iterator[str]:
    oracle = result.oracle
    broken = ", ".join(f"{count} {name}" for name, count in sorted(oracle.allowed.items()) if count) or "none"
    yield f"- {sum(map(len, result.recoveries.values()))} faults in {result.seconds:.0f} s, seed {result.seed}."
    yield f"- {oracle.requests} requests, {oracle.streams} of them streams: {oracle.wrong} wrong, {oracle.lost} lost."
    yield f"- Answers that ended with the engine or the router that gave them: {broken}."
    yield f"- Sent again by the client, as a kept connection had ended: {oracle.again}."
    if result.lives:
        longest = max(result.lives, key=lambda life: life.faults)
        yield (
            f"- The longest life of a router had {longest.faults} faults: {longest.fds[0]} descriptors, without "
            f"those of requests, before, {longest.fds[1]} after; {longest.mib[0]:.0f} MiB and {longest.mib[1]:.0f} MiB."
        )
    left = "; ".join(result.left) or "nothing"
    yield f"- Processes, ports, sockets and shared memory left after `router down`: {left}."
    if result.left_out:
        yield f"- Left out, as this machine does not permit it: {', '.join(result.left_out)}."


def _quantile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

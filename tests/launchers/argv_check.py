"""Argument lists against tables of an engine's own flags (`flags/`), for engines that cannot be installed here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

Table = dict[str, tuple[str, frozenset[str]]]
"""How many values each flag takes, as argparse says it, and its choices if it has any."""


def table(engine: str) -> Table:
    read: Table = {}
    for line in Path(__file__).with_name("flags").joinpath(f"{engine}.txt").read_text().splitlines():
        if not line.startswith("#"):
            flag, values, *choices = line.split(" ", 2)
            read[flag] = (values, frozenset(choices[0].split(",") if choices else ()))
    return read


def faults(words: Sequence[str], known: Table) -> list[str]:
    """What the engine's parser would say of `words`, which are flags and their values."""
    return [fault for flag, values in _parts(words) for fault in _of_one(flag, values, known)]


def _parts(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    starts = [at for at, word in enumerate(words) if word.startswith("--")]
    if words and starts[:1] != [0]:
        yield words[0], []
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        yield words[start], list(words[start + 1 : end])


def _of_one(flag: str, values: list[str], known: Table) -> Iterator[str]:
    if flag not in known:
        yield f"{flag} is unknown"
        return
    takes, choices = known[flag]
    most = {"0": 0, "1": 1, "?": 1}.get(takes, len(values))
    least = {"1": 1, "+": 1}.get(takes, 0)
    if not least <= len(values) <= most:
        yield f"{flag} takes {takes} values and has {len(values)}"
    if choices and not choices.issuperset(values):
        yield f"{flag} is one of {sorted(choices)}, not {values}"

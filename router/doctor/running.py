"""The router that runs, and its engines that failed."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from router import __version__
from router.doctor.check import Check, Verdict, ok, warning
from router.fleet.files import Files
from router.fleet.rows import Info, Row

LAST_LINES = 10
LONGEST = 2**14
"""Bytes at a log's end among which they are looked for."""


def check_router(running: Info | None, rows: Sequence[Row], state_dir: Path) -> Iterator[Check]:
    if running is None:
        yield ok(f"router: none runs in {state_dir}")
        return
    what = f"router: {running.version} runs (pid {running.pid}) at {running.address}"
    other = running.version != __version__
    yield warning(what, f"this is {__version__}: `router up --takeover` puts it in its place") if other else ok(what)
    for row in rows:
        yield check_row(row, Files(state_dir).log(row.model, row.replica))


def check_row(row: Row, log: Path) -> Check:
    who = f"{row.model}#{row.replica}"
    if row.error is None and row.circuit in (None, "closed"):
        return ok(f"{who}: {row.state}")
    if row.error is None:
        remedy = "it is tried again by itself; if that lasts, its log may say why"
        return Check(
            Verdict.FAULT, f"{who}: {row.state}, but fails its requests and gets none", remedy, last_lines(log)
        )
    if row.diagnosis is None:
        return Check(
            Verdict.FAULT, f"{who}: {row.state}: {row.error}", f"see `router logs {row.model}`", last_lines(log)
        )
    found = row.diagnosis
    detail = (f"it shows in: {found.evidence}", *last_lines(log))
    return Check(Verdict.FAULT, f"{who}: {row.state}: {found.cause}", found.remedy, detail)


def last_lines(log: Path) -> tuple[str, ...]:
    """The last of an engine's log, as far as they can be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(f"| {line.rstrip()}" for line in lines[-LAST_LINES:])

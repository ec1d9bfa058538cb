import heapq
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from operator import attrgetter

import click

from router.cli.common import fail, file_option, find_state
from router.cli.log_printer import Printer
from router.cli.log_reader import Line, LogReader
from router.cli.log_sources import Replicas, Requests
from router.config.values import Unfit, parse_duration
from router.fleet.files import Files

LOOK = 0.2
"""Seconds between two looks for what is new."""
LINES = 200


def _since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """`10m`, that long ago, or a time; in seconds since 1970."""
    if value is None:
        return None
    with suppress(Unfit):
        return time.time() - parse_duration(value)
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):
        words = f"{value!r} is no time; write 10m, 1h30m, 2026-11-20T10:00 or 2026-11-20T10:00Z"
        raise click.BadParameter(words) from None


@click.command(epilog="Example: router logs qwen -f --since 10m")
@click.argument("model", required=False)
@file_option
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes.")
@click.option(
    "--since", callback=_since, metavar="TIME", help="Only what came in the last 10m, or since 2026-11-20T10:00."
)
@click.option("--replica", type=click.IntRange(0), metavar="N", help="Only this replica's; without it all of them.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), metavar="N", help=f"How many last lines: {LINES}, or all with --since."
)
@click.option("-t", "--timestamps", is_flag=True, help="Print the time in front of each line.")
@click.option(
    "--requests", is_flag=True, help="The log of the requests, all or those to MODEL, instead of an engine's."
)
def command(
    model: str | None,
    option: str | None,
    follow: bool,
    since: float | None,
    replica: int | None,
    lines: int | None,
    timestamps: bool,
    requests: bool,
) -> None:
    """Print the log of a model's engines, of this run and those before it; or that of the requests."""
    if model is None and not requests:
        raise click.UsageError("name a MODEL, or give --requests")
    files = Files(find_state(option))
    logs = Requests(files, option, model) if requests or model is None else Replicas(files, option, model, replica)
    lines = LINES if lines is None and since is None else lines
    try:
        with suppress(KeyboardInterrupt):
            _print(logs, Printer(logs.label, timestamps), follow, since, lines)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left for it cannot be printed
        if not isinstance(error, BrokenPipeError):
            fail(f"cannot go on: {error}")


def _print(logs: Requests | Replicas, printer: Printer, follow: bool, since: float | None, lines: int | None) -> None:
    first = b"" if since is None else _stamp(since)
    with ExitStack() as opened:
        readers = _open_new(logs, {}, opened)
        if not readers and not (follow and logs.expected):
            fail(logs.missing)
        if logs.remark:
            click.echo(f"router: {logs.remark}", err=True)
        if not readers:
            click.echo(f"router: {logs.missing}; waiting for it", err=True)
        for reader in readers.values():
            if since is not None:
                reader.skip_before(since)
            elif lines is not None and not logs.chooses:
                reader.skip_to_last(lines)
        history = logs.choose(_merged(readers, first))
        printer.print(history if lines is None else deque(history, maxlen=lines), labelled=len(readers) > 1)
        while follow and not _gone(LOOK):
            readers = _open_new(logs, readers, opened)
            printer.print(logs.choose(_merged(readers, first)), labelled=len(readers) > 1)


def _open_new(logs: Requests | Replicas, readers: dict[int, LogReader], opened: ExitStack) -> dict[int, LogReader]:
    """`readers`, and those of logs that are new."""
    new = {number: path for number, path in sorted(logs.find().items()) if number not in readers}
    return readers | {number: opened.enter_context(closing(LogReader(path, number))) for number, path in new.items()}


def _merged(readers: dict[int, LogReader], first: bytes) -> Iterator[Line]:
    """What has come in all of them, in the order of its time, without what came before `first`."""
    lines = heapq.merge(*(reader.lines() for reader in readers.values()), key=attrgetter("order"))
    return (line for line in lines if line.order >= first)


def _stamp(seconds: float) -> bytes:
    words = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return words.replace("+00:00", "Z").encode()


def _gone(seconds: float) -> bool:
    """Waits, unless nobody reads what is printed any more; whether that is so."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(seconds * 1000))

import os
import time
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import click

from router.cli.common import fail, file_option, find_state
from router.fleet.files import Files

LOOK = 0.2
"""Seconds between two looks for what is new."""
CHUNK = 2**16


@click.command(epilog="Example: router logs qwen -f")
@click.argument("model")
@file_option
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes.")
@click.option("--replica", default=0, show_default=True, help="Which replica's.")
@click.option("-n", "--lines", type=click.IntRange(0), default=200, show_default=True, help="How many last lines.")
def command(model: str, option: str | None, follow: bool, replica: int, lines: int) -> None:
    """Print an engine's log, of this run and those before it."""
    files = Files(find_state(option))
    file = files.log(model, replica)
    if not file.exists():
        known = ", ".join(sorted(files.models())) or "none; start the router with `router up`"
        fail(f"no log of {model}#{replica} in {files.logs}; models with a log: {known}")
    logs = _open(file)
    click.echo(b"".join(deque((line for log in logs for line in log), maxlen=lines)), nl=False)
    with suppress(KeyboardInterrupt):
        while follow:
            logs = _follow(file, logs[-1])
            time.sleep(LOOK)


def _open(file: Path) -> list[BinaryIO]:
    """The log and its rotated files, the oldest first."""
    numbered = [path for path in file.parent.glob(f"{file.name}.*") if path.suffix[1:].isdecimal()]
    rotated = sorted(numbered, key=lambda path: int(path.suffix[1:]), reverse=True)
    logs: list[BinaryIO] = []
    for path in (*rotated, file):
        with suppress(FileNotFoundError):  # rotated away just now
            logs.append(path.open("rb"))
    return logs


def _follow(file: Path, last: BinaryIO) -> list[BinaryIO]:
    """Prints what came after what was read of `last`, in it and in the files that followed it; the open one of now."""
    _print_rest(last)
    with ExitStack() as stack:
        logs = [stack.enter_context(log) for log in _open(file)]
        known = next((index for index, log in enumerate(logs) if _same(log, last)), -1)
        newer = logs[known + 1 :]
        if not newer:
            return [last]
        _print_rest(last)  # it was written to until it was rotated
        for log in newer:
            _print_rest(log)
        last.close()
        stack.pop_all()
        for log in logs[:-1]:
            log.close()
        return logs[-1:]


def _same(one: BinaryIO, other: BinaryIO) -> bool:
    return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))


def _print_rest(log: BinaryIO) -> None:
    while data := log.read(CHUNK):
        click.echo(data, nl=False)

import os
import time
from pathlib import Path
from typing import BinaryIO

import click

from router.cli.common import fail, file_option, find_state
from router.fleet.files import Files


@click.command(epilog="Example: router logs qwen -f")
@click.argument("model")
@file_option
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes.")
@click.option("--replica", default=0, show_default=True, help="Which replica's.")
@click.option("-n", "--lines", default=200, show_default=True, help="How many of the last lines.")
def command(model: str, option: str | None, follow: bool, replica: int, lines: int) -> None:
    """Print an engine's log, of the run that is going on or the last one."""
    files = Files(find_state(option))
    file = files.log(model, replica)
    if not file.exists():
        known = ", ".join(sorted(files.models())) or "none; start the router with `router up`"
        fail(f"no log of {model}#{replica} in {files.logs}; models with a log: {known}")
    with file.open("rb") as log:
        text = log.read()
        click.echo(b"".join(text.splitlines(keepends=True)[-lines:]), nl=False)
        if follow:
            _follow(file, log)


def _follow(file: Path, log: BinaryIO) -> None:
    """Prints what comes, and goes on with the new file when this one is rotated."""
    while True:
        rotated = not file.exists() or not os.path.samestat(file.stat(), os.fstat(log.fileno()))
        click.echo(log.read(), nl=False)
        if rotated and file.exists():
            log = file.open("rb")
        time.sleep(0.2)

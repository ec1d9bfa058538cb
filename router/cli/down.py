import asyncio
import os
import time
from pathlib import Path

import click
import psutil

from router.cli.common import STUCK, fail, file_option, find_state
from router.console.client import Client, NotRunning, Silent

LOOK = 0.05
"""Seconds between two looks at whether the router is still there."""


@click.command(epilog="Example: router down -c router.yaml")
@file_option
@click.option("--now", is_flag=True, help="Wait for no request and no engine: kill them.")
def command(option: str | None, now: bool) -> None:
    """Stop a running router and every process of its engines; returns when all are gone. Where the router was killed,
    what it left is ended."""
    client = Client(find_state(option))
    try:
        router = _stop(client, now)
    except Silent as error:
        fail(f"{error}; {STUCK}")
    except NotRunning as error:
        _clear(client.state_dir, error)
        return
    while router.is_running() and router.status() != psutil.STATUS_ZOMBIE:
        time.sleep(LOOK)
    click.echo(f"the router (pid {router.pid}) has ended")


def _stop(client: Client, now: bool) -> psutil.Process:
    """The process, and not only its pid: another one may get that. Nor the lock, which the next router may hold."""
    router = psutil.Process(client.info().pid)
    client.stop(now=now)
    return router


def _clear(state_dir: str, error: NotRunning) -> None:
    if not os.path.isdir(state_dir):
        fail(f"{error}; start one with `router up`, or name its file with -c")
    from router.app import end_leftovers  # noqa: PLC0415 - spares the usual case its import
    from router.sockets import CannotStart  # noqa: PLC0415

    try:
        ended = asyncio.run(end_leftovers(Path(state_dir)))
    except CannotStart as refusal:
        fail(str(refusal))
    if not ended:
        fail(f"{error}; start one with `router up`, or name its file with -c")
    click.echo(f"{error}; ended {ended} engine{'s' if ended > 1 else ''} that an earlier one had left")

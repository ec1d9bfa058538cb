import time

import click
import psutil

from router.cli.common import ask, file_option
from router.console.client import Client

LOOK = 0.05
"""Seconds between two looks at whether the router is still there."""


@click.command(epilog="Example: router down -c router.yaml")
@file_option
@click.option("--now", is_flag=True, help="Wait for no request and no engine: kill them.")
def command(option: str | None, now: bool) -> None:
    """Stop a running router and every process of its engines; returns when all are gone."""
    router = ask(option, lambda client: _stop(client, now))
    while router.is_running() and router.status() != psutil.STATUS_ZOMBIE:
        time.sleep(LOOK)
    click.echo(f"the router (pid {router.pid}) has ended")


def _stop(client: Client, now: bool) -> psutil.Process:
    """The process, and not only its pid: another one may get that. Nor the lock, which the next router may hold."""
    router = psutil.Process(client.info().pid)
    client.stop(now=now)
    return router

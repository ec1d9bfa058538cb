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
    pid = ask(option, lambda client: _stop(client, now))
    while _is_alive(pid):
        time.sleep(LOOK)
    click.echo(f"the router (pid {pid}) has ended")


def _stop(client: Client, now: bool) -> int:
    pid = client.info().pid
    client.stop(now=now)
    return pid


def _is_alive(pid: int) -> bool:
    """Not by the lock that it holds: another router may take that at once."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

import fcntl

import click

from router.cli.common import ask, file_option, find_state
from router.console.client import Client


@click.command(epilog="Example: router down -c router.yaml")
@file_option
def command(option: str | None) -> None:
    """Stop a running router and every process of its engines; returns when all are gone."""
    pid = ask(option, _stop)
    with (find_state(option) / "router.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # the router holds it as long as it runs
    click.echo(f"the router (pid {pid}) has ended")


def _stop(client: Client) -> int:
    pid = client.info().pid
    client.stop()
    return pid

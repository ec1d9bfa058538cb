import sys
import time

import click

from router.cli.common import fail, file_option, find_state
from router.cli.screen import progress
from router.cli.steps import decline, show
from router.config import find_file
from router.console.client import Client, Declined, NotRunning
from router.fleet.rows import Row

LOOK = 0.1
"""Seconds between two looks at the engines."""


@click.command(epilog="Example: router apply -c router.yaml")
@file_option
@click.option("--no-wait", is_flag=True, help="Return at once, and not when all engines are ready.")
def command(option: str | None, no_wait: bool) -> None:
    """Have the running router do what the changed file says, and nothing else; waits until all engines are ready.

    Unchanged engines are not touched. One that is replaced goes on until the new one is ready, where the machine's
    memory allows that, and ends when its last request has. A file with faults changes nothing.
    """
    client = Client(find_state(option))  # whatever else is wrong with the file is the router's to say
    try:
        plan = client.apply(find_file(option))
    except Declined as error:
        decline(error)
    except NotRunning as error:
        fail(f"{error}; start one with `router up`")
    show(plan)
    if not no_wait and not _wait(client):
        sys.exit(1)


def _wait(client: Client) -> bool:
    """Whether all got ready. An engine that fails is started again by the router, whatever this command does."""
    with progress(sys.stderr.isatty()) as show_rows:
        while True:
            try:
                rows = client.rows()
            except NotRunning as error:
                fail(str(error))
            if show_rows([row for row in rows if row.state != "draining"]):  # those are not wanted any more
                return True
            if failed := [row for row in rows if row.state == "failed"]:
                _tell(failed)
                return False
            time.sleep(LOOK)


def _tell(failed: list[Row]) -> None:
    for row in failed:
        click.echo(f"{row.model}#{row.replica}: {row.error}; it is tried again, see `router ps`", err=True)

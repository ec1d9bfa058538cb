import click

from router.cli.common import file_option, find_state, load_or_exit
from router.cli.steps import decline, show
from router.config import find_file
from router.console.client import Client, Declined, NotRunning
from router.fleet.rows import Plan, Step


@click.command(epilog="Example: router plan -c router.yaml")
@file_option
def command(option: str | None) -> None:
    """Print what `router apply` would do to the running router with the file as it is now; nothing changes."""
    client, terminated = Client(find_state(option)), set[str]()
    try:
        plan = client.plan(find_file(option))
        terminated = {row.model for row in client.rows() if row.terminated}
    except NotRunning:
        config = load_or_exit(option)
        click.echo("no router runs; `router up` would start:")
        plan = Plan(tuple(Step(model.name, "add") for model in (*config.models, *config.groups)))
    except Declined as error:
        decline(error)
    show(plan, terminated)

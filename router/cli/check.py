import json
import sys

import click

from router.cli.common import file_option, load_or_exit
from router.config import EngineSpec
from router.doctor.encoders import check_encoder
from router.downloads.held import missing


@click.command(epilog="Example: router check -c router.yaml")
@file_option
@click.option("--schema", is_flag=True, help="Print the file's JSON schema instead.")
def command(option: str | None, schema: bool) -> None:
    """Check the file: print every fault at once (exit status 2), or what would be started."""
    if schema:
        from router.config.reference import json_schema  # noqa: PLC0415

        click.echo(json.dumps(json_schema(), indent=2))
        return
    config = load_or_exit(option)
    wrong = [check for model in config.models if isinstance(model, EngineSpec) and (check := check_encoder(model))]
    for check in wrong:
        click.echo(check.render(), err=True)
    if wrong:
        sys.exit(2)
    for model in config.models:
        if isinstance(model, EngineSpec):
            words = f"{model.name}: {model.kind}, {model.replicas} x {model.engine} ({' '.join(model.program.argv)})"
            click.echo(words + (f"; not downloaded yet: `router pull {model.name}`" if missing(model) else ""))
        else:
            click.echo(f"{model.name}: {model.kind}, {'https' if model.tls else 'http'}://{model.host}:{model.port}")
    for group in config.groups:
        members = ", ".join(f"{name} ({weight})" for name, weight in group.members)
        click.echo(f"{group.name}: {group.kind}, group of {members}")
    click.echo(f"{config.file}: no fault")

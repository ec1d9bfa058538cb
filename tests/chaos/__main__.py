"""`python -m chaos`, with this folder's parent on the path: the long form, and its figures for docs/reliability.md."""

import asyncio
import secrets

import click

from chaos.report import put, summary
from chaos.run import KINDS, Run
from chaos.setting import REPOSITORY
from chaos.world import Violated

PAGE = REPOSITORY / "docs/reliability.md"


@click.command()
@click.option("--faults", "count", default=220, show_default=True, help="How many.")
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="Which, with commas between them.")
@click.option("--seed", type=int, help="The one that a run has printed, to have it again.")
@click.option("--publish", is_flag=True, help="Put the figures into docs/reliability.md.")
def main(count: int, kinds: str, seed: int | None, publish: bool) -> None:
    """Faults on a running router under load."""
    chosen = kinds.split(",")
    if unknown := set(chosen) - set(KINDS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(KINDS)}", param_hint="--kinds")
    seed = secrets.randbelow(10**6) if seed is None else seed
    click.echo(f"{count} faults, seed {seed}")
    run = Run(chosen, count, seed, click.echo)
    try:
        asyncio.run(run())
    except Violated as violated:
        click.echo(summary(run.result))
        raise click.ClickException(str(violated)) from None
    click.echo(summary(run.result))
    if publish:
        put(run.result, PAGE)


if __name__ == "__main__":
    main()

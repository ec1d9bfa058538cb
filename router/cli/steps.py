"""A plan, and why there is none, for people."""

import sys
from typing import NoReturn

import click

from router.console.client import Declined
from router.fleet.rows import Plan

MARKS = {"keep": " ", "update": "~", "scale": "~", "replace": "±", "add": "+", "remove": "-"}
WORDS = {"update": "its engines go on", "scale": "replicas come or go, the others go on", "replace": "new engines"}


def show(plan: Plan) -> None:
    """A line a model, then the settings."""
    width = max((len(step.model) for step in plan.steps), default=0)
    for step in plan.steps:
        why = f"  {', '.join(step.fields)}" if step.fields else ""
        words = f" ({WORDS[step.action]})" if step.action in WORDS else ""
        click.echo(f"{MARKS[step.action]} {step.action:<7} {step.model:<{width}}{why}{words}".rstrip())
    if plan.settings:
        click.echo(f"settings: {', '.join(plan.settings)}")
    for line in plan.refused:
        click.echo(f"cannot be applied: {line}", err=True)
    if plan.refused:
        sys.exit(1)


def decline(error: Declined) -> NoReturn:
    """Exit status 2, as for any file with faults."""
    click.echo(str(error), err=True)
    click.echo("nothing has changed", err=True)
    sys.exit(2)

"""A plan, and why there is none, for people."""

import sys
from collections.abc import Collection
from typing import NoReturn

import click

from router.console.client import Declined
from router.fleet.rows import Plan

MARKS = {"keep": " ", "update": "~", "scale": "~", "replace": "±", "add": "+", "remove": "-"}
WORDS = {"update": "its engines go on", "scale": "replicas come or go, the others go on", "replace": "new engines"}
STAYING = ("keep", "update", "scale")
TERMINATED = "it is terminated, and stays so"


def show(plan: Plan, terminated: Collection[str] = ()) -> None:
    """A line a model, then the settings. `terminated`: models whose engines somebody has ended."""
    width = max((len(step.model) for step in plan.steps), default=0)
    for step in plan.steps:
        why = f"  {', '.join(step.fields)}" if step.fields else ""
        said = TERMINATED if step.model in terminated and step.action in STAYING else WORDS.get(step.action, "")
        words = f" ({said})" if said else ""
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

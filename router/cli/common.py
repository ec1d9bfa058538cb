"""What several commands share: the option that names the file, the file itself, and words for when no router runs."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from router.config import Config, ConfigError, find_file, load, state_dir
from router.console.client import Client, NotRunning, Silent

T = TypeVar("T")

STUCK = "`kill -CONT` wakes one that is stopped; after `kill -9`, `router down` ends what it leaves"

file_option = click.option(
    "-c", "--config", "option", metavar="FILE", help="The file; else $ROUTER_CONFIG, else ./router.yaml."
)


def load_or_exit(option: str | None) -> Config:
    """The checked file; every fault on stderr and exit status 2 otherwise, before anything was done."""
    from router.fleet.inventory import read_nvml  # noqa: PLC0415 - spares the other commands its import

    try:
        return load(find_file(option), read_nvml)
    except ConfigError as error:
        click.echo(error, err=True)
        count = len(error.faults)
        click.echo(f"{count} fault{'s' if count > 1 else ''}", err=True)
        sys.exit(2)


def find_state(option: str | None) -> Path:
    """The state folder that the file names, or the usual one where there is no file."""
    try:
        return state_dir(option)
    except ConfigError as error:
        click.echo(error, err=True)
        sys.exit(2)


def ask(option: str | None, question: Callable[[Client], T]) -> T:
    """The running router's answer; one line about what to do and exit status 1 if none runs."""
    try:
        return question(Client(find_state(option)))
    except Silent as error:
        fail(f"{error}; {STUCK}")
    except NotRunning as error:
        fail(f"{error}; start one with `router up`, or name its file with -c")


def fail(message: str) -> NoReturn:
    click.echo(f"router: {message}", err=True)
    sys.exit(1)

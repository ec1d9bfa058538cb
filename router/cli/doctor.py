import sys
from collections.abc import Iterator
from pathlib import Path

import click

from router.cli.common import file_option
from router.config import Config, ConfigError, find_file, load, state_dir
from router.console.client import Client, NotRunning
from router.doctor.check import Check, Verdict, fault, ok, once
from router.doctor.machine import check_machine, check_state
from router.doctor.models import check_models
from router.doctor.running import check_router
from router.fleet.inventory import Gpu, read_nvml
from router.fleet.rows import Info, Row


@click.command(epilog="Example: router doctor -c router.yaml")
@file_option
def command(option: str | None) -> None:
    """Check the file, the machine and the running router; exit status 1 if something is at fault.

    Nothing is started or changed. A warning is something that may go well.
    """
    faults = 0
    for check in once(_checks(option)):
        click.echo(check.render())
        faults += check.verdict is Verdict.FAULT
    if faults:
        click.echo(f"{faults} fault{'s' if faults > 1 else ''}", err=True)
        sys.exit(1)


def _checks(option: str | None) -> Iterator[Check]:
    gpus = read_nvml()
    try:
        config = load(find_file(option), lambda: gpus)
    except ConfigError as error:
        yield from _faults(error)
        yield from _without_file(option)
    else:
        yield ok(f"file: {config.file}")
        yield from _with_file(config, gpus)


def _faults(error: ConfigError) -> Iterator[Check]:
    for each in error.faults:
        where = f"{error.file}:{each.line}" if each.line else error.file
        yield fault(f"{where}: {each.path}: {each.problem}" if each.path else f"{where}: {each.problem}", each.remedy)


def _with_file(config: Config, gpus: list[Gpu]) -> Iterator[Check]:
    running, rows = _ask(config.state_dir)
    yield from check_machine(config, gpus, running)
    yield from check_models(config)
    yield from check_router(running, rows, config.state_dir)


def _without_file(option: str | None) -> Iterator[Check]:
    """What can be looked at where the file is at fault: it may have been changed while a router runs with it."""
    try:
        folder = state_dir(option)
    except ConfigError:
        return
    yield check_state(folder)
    yield from check_router(*_ask(folder), folder)


def _ask(folder: Path) -> tuple[Info | None, list[Row]]:
    client = Client(folder)
    try:
        return client.info(), client.rows()
    except NotRunning:
        return None, []

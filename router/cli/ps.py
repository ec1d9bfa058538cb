from typing import Any

import click
import msgspec

from router.cli.common import ask, file_option
from router.fleet.rows import Row

COLUMNS = ("MODEL", "REPLICA", "ENGINE", "STATE", "PID", "ADDRESS", "GPUS", "UPTIME", "RESTARTS", "IN-FLIGHT", "ERROR")


@click.command(epilog="Example: router ps --json")
@file_option
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def command(option: str | None, as_json: bool) -> None:
    """List the engines of a running router."""
    rows = ask(option, lambda client: client.rows())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_record(row) for row in rows]), indent=2))
        return
    table = [COLUMNS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


_FOR_PROGRESS = ("state_s", "last_line", "terminated")


def _record(row: Row) -> dict[str, Any]:
    """Without what only the progress display needs."""
    return {name: value for name, value in msgspec.structs.asdict(row).items() if name not in _FOR_PROGRESS}


def _cells(row: Row) -> tuple[str, ...]:
    values = _record(row)
    del values["circuit"]  # ERROR says what it means
    if (diagnosis := values.pop("diagnosis")) is not None:
        values["error"] = f"{diagnosis.cause}; see `router doctor`"
    if row.state == "starting" and row.pid is None and row.last_line:
        values["error"] = row.last_line  # it waits for a GPU
    values["gpus"] = None if row.gpus is None else ",".join(row.gpus) or "none"
    values["uptime_s"] = None if row.uptime_s is None else f"{row.uptime_s:.0f}s"
    return tuple("-" if value is None else str(value) for value in values.values())

"""What `router up` shows: the engines as they get ready, then how to use them."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import anyio
import click

from router.config import Config, EngineSpec
from router.fleet.rows import Row

if TYPE_CHECKING:
    from rich.table import Table

REFRESH = 0.2
"""Seconds between two looks."""

log = logging.getLogger("router")


class Source(Protocol):
    """A router, as far as the screen goes."""

    address: str
    config: Config

    def rows(self) -> list[Row]: ...


async def watch(router: Source, screen: bool) -> None:
    """Shows the progress until all is ready, then the greeting; without a `screen` a log line says that it is ready.
    A terminal that has gone is no fault: the router goes on without."""
    with suppress(OSError):
        with progress(screen) as show:
            while not router.address or not _serves_all(router, show):  # noqa: ASYNC110 - a picture is drawn each time
                await anyio.sleep(REFRESH)
        if screen:
            click.echo(greeting(router.config, router.address))
            click.echo("Ctrl-C stops everything.")
            log.setLevel(logging.INFO)
        else:
            log.info("ready: %s", router.address)


def _serves_all(router: Source, show: Callable[[Sequence[Row]], bool]) -> bool:
    """Not while it ends: then the first that are gone leave those that are ready behind."""
    rows = router.rows()
    there = Counter(row.model for row in rows)
    engines = [model for model in router.config.models if isinstance(model, EngineSpec)]
    return show(rows) and all(there[model.name] >= model.replicas for model in engines)


@contextmanager
def progress(screen: bool) -> Iterator[Callable[[Sequence[Row]], bool]]:
    """A function that shows the rows and says whether all are ready."""
    if not screen:
        yield _all_ready
        return
    from rich.console import Console  # noqa: PLC0415 - only for people
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(stderr=True), auto_refresh=False) as live, _log_above():

        def show(rows: Sequence[Row]) -> bool:
            live.update(_table(rows), refresh=True)
            return _all_ready(rows)

        yield show


@contextmanager
def _log_above() -> Iterator[None]:
    """What is logged meanwhile goes to rich's stderr, which prints it above the picture."""
    handlers = [each for each in logging.getLogger().handlers if isinstance(each, logging.StreamHandler)]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            handler.setStream(stream)


def _all_ready(rows: Sequence[Row]) -> bool:
    return bool(rows) and all(row.state == "ready" for row in rows if not row.terminated)


def _table(rows: Sequence[Row]) -> "Table":
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    colours = {"ready": "green", "starting": "yellow", "failed": "red"}
    table = Table.grid(padding=(0, 2))
    for row in rows:
        words = row.why if row.state == "failed" else row.last_line if row.state == "starting" else row.address
        table.add_row(
            row.model if row.replica == 0 else f"{row.model}#{row.replica}",
            Text(row.state, style=colours.get(row.state, "")),
            f"{row.state_s:.1f}s",
            Text(words or "", overflow="ellipsis", no_wrap=True, style="dim"),
        )
    return table


def greeting(config: Config, address: str) -> str:
    """The address, the models, and a line to copy."""
    every = (*config.models, *config.groups)
    width = max(len(model.name) for model in every)
    lines = [f"\nengine-router serves {address}/v1", ""]
    for model in every:
        others = (*model.aliases, *(model.lora if isinstance(model, EngineSpec) else ()))
        also = f"  also as {', '.join(others)}" if others else ""
        lines.append(f"  {model.name:<{width}}  {model.kind}{also}")
    return "\n".join([*lines, "", _curl(config, address), ""])


def _curl(config: Config, address: str) -> str:
    model = next((model for model in config.models if model.kind == "chat"), config.models[0])
    path, body = {
        "chat": ("/v1/chat/completions", '"messages": [{"role": "user", "content": "Hello"}]'),
        "embedding": ("/v1/embeddings", '"input": "Hello"'),
        "rerank": ("/v1/rerank", '"query": "Hello", "documents": ["Hi", "Bye"]'),
    }.get(model.kind, ("/v1/models", ""))
    key = ' -H "Authorization: Bearer $KEY"' if config.keys else ""
    if not body:
        return f"curl {address}{path}{key}"
    data = f'{{"model": "{model.name}", {body}}}'
    return f"curl {address}{path}{key} -H 'Content-Type: application/json' -d '{data}'"

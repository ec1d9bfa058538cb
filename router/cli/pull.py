import os
import sys
from collections.abc import Sequence
from types import TracebackType

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from router.cli.common import file_option, load_or_exit
from router.cli.endings import Endings
from router.config import Config, EngineSpec
from router.config.convert import nearest
from router.downloads.asked import asked
from router.downloads.hub import PullFailed
from router.downloads.pull import Pulled, pull

INTERRUPTED = 130
"""The exit status of a program that was stopped with Ctrl-C, by the shells' convention."""


@click.command(epilog="Example: router pull qwen3-8b")
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@file_option
def command(names: tuple[str, ...], option: str | None) -> None:
    """Download the models' files before the engines start; without names, those of all models.

    Files go into the caches of Hugging Face and ModelScope, where the engines look. Ctrl-C keeps what has come.
    """
    endings = Endings()
    config = load_or_exit(option)
    endings.listen(_leave)
    faults = []
    for spec in _chosen(config, names):
        try:
            _pull(spec, endings)
        except PullFailed as failure:
            faults.append(f"{spec.name}: {failure}")
    for fault in faults:
        click.echo(f"router: {fault}", err=True)
    sys.exit(1 if faults else 0)


def _chosen(config: Config, names: Sequence[str]) -> list[EngineSpec]:
    """The models to download. Ends with exit status 2 for a name that is none."""
    models = {name: model for model in config.models for name in (model.name, *model.aliases)}
    for name in names:
        if name not in models:
            raise click.UsageError(f"no model is called {name!r}; {nearest(name, models)}")
    wanted = dict.fromkeys(models[name].name for name in names) or [model.name for model in config.models]
    for name in wanted if names else ():
        if asked(models[name]) is None:
            click.echo(f"{name}: nothing to download, its `model` is not on a hub")
    chosen = [models[name] for name in wanted if asked(models[name])]
    if not names and not chosen:
        click.echo(f"{config.file}: no model comes from a hub, nothing to download")
    return [model for model in chosen if isinstance(model, EngineSpec)]


def _pull(spec: EngineSpec, endings: Endings) -> None:
    with _Bar(spec) as bar:
        endings.listen(bar.leave)
        pulled = pull(spec, bar)
    endings.listen(_leave)
    click.echo(f"{spec.name}: {_what(pulled)} in {pulled.folder}")


def _what(pulled: Pulled) -> str:
    if not pulled.fetched:
        return f"was complete already, {decimal(pulled.size)}"
    return f"complete, {decimal(pulled.size)}, of which {decimal(pulled.fetched)} came now,"


def _leave() -> None:
    """At once: threads that wait for bytes would otherwise be waited for, and what they wrote is on disk."""
    click.echo("router: interrupted; what has come is kept, and `router pull` goes on from there", err=True)
    os._exit(INTERRUPTED)


class _Bar:
    """One model's progress; a line at its beginning in place of it where nobody looks at a terminal."""

    def __init__(self, spec: EngineSpec) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        speed = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._spec = spec
        self._bar = Progress(
            *columns, *speed, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False
        )
        self._task = self._bar.add_task(spec.name, total=None)

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, hub: str, size: int, held: int) -> None:
        if self._bar.disable and held < size:
            source = self._spec.source.value
            click.echo(f"{self._spec.name}: {decimal(size - held)} of {source} to come from {hub}", err=True)
        self._bar.update(self._task, total=size, completed=held)

    def come(self, count: int) -> None:
        self._bar.advance(self._task, count)

    def leave(self) -> None:
        self._bar.stop()
        _leave()

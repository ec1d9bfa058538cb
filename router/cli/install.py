from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from launchers import LAUNCHERS
from router.cli.common import fail
from router.config.schema import RouterFile
from router.environments import InstallFailed, choose, folder, install


@click.command(epilog="Example: router install vllm --cpu")
@click.argument("engine", type=click.Choice([name for name, launcher in LAUNCHERS.items() if launcher.recipes]))
@click.option("--cpu", is_flag=True, help="The build without GPU support, where there is one.")
@click.option("--form", help="Another form of the engine (llamacpp: xllamacpp, python, server).")
@click.option(
    "--dir",
    "directory",
    default=RouterFile(models={}).engines_dir,
    show_default=True,
    help="As `engines_dir` in the file.",
)
def command(engine: str, cpu: bool, form: str | None, directory: str) -> None:
    """Install an engine into an environment of its own, where `engine:` finds it."""
    launcher = LAUNCHERS[engine]
    try:
        name = choose(launcher, cpu=cpu, form=form)
        target = folder(launcher, name, Path(directory).expanduser().absolute())
        with _bar() as bar:
            task = bar.add_task(engine, total=None, step="")
            made = install(
                launcher.recipes[name],
                target,
                lambda done, total, text: bar.update(task, completed=done, total=total, step=text[:60]),
            )
    except InstallFailed as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot install into {directory}: {error.strerror or error}")
    click.echo(f"{engine} ({name}) {'is installed' if made else 'was installed already'} in {target}")


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, TextColumn("{task.fields[step]}"), console=Console(stderr=True), transient=True)

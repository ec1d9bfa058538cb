"""The command line. A command's module is imported only when it is the one that runs, so that `--help` is quick."""

import importlib
from typing import Any

import click

from router import __version__

COMMANDS = {
    "up": "Start the engines and serve them.",
    "down": "Stop a running router and its engines.",
    "ps": "List the engines of a running router.",
    "plan": "Print what a changed file would do.",
    "apply": "Have the running router do it.",
    "logs": "Print an engine's log.",
    "check": "Check the file without starting anything.",
    "install": "Install an engine into an environment of its own.",
    "pull": "Download the models before their engines start.",
    "doctor": "Check the machine, the file and the running router.",
}


class Commands(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"router.cli.{name}").command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: router up -c router.yaml",
)
@click.version_option(__version__, prog_name="router")
def group() -> None:
    """Serve many models from your own machines behind one OpenAI address: one YAML file and `router up`."""


def main() -> Any:
    return group(prog_name="router")

import logging
import subprocess
import sys
import time
from pathlib import Path

import anyio
import click

from router.cli.common import fail, file_option, load_or_exit
from router.config import Config
from router.console.client import Client, NotRunning


@click.command(epilog="Example: router up -c router.yaml --detach")
@file_option
@click.option("--detach", is_flag=True, help="Return once everything is ready, and leave it running.")
def command(option: str | None, detach: bool) -> None:
    """Start the engines and serve them until Ctrl-C; a second Ctrl-C waits for nothing."""
    config = load_or_exit(option)
    if detach:
        _detach(config)
    else:
        _run(config)


def _run(config: Config) -> None:
    from router.app import CannotStart, Router  # noqa: PLC0415 - spares `--help` its import
    from router.cli.screen import watch  # noqa: PLC0415

    router = Router(config)
    screen = sys.stderr.isatty()
    _log_to_stderr(screen)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(watch, router, config, screen)
            await router.run()
            group.cancel_scope.cancel()

    try:
        anyio.run(main, backend_options={"use_uvloop": True})
    except* CannotStart as group:
        fail(str(group.exceptions[0]))


def _log_to_stderr(screen: bool) -> None:
    """The router's own words; where there is a screen only its warnings, as the screen shows the rest."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("router").setLevel(logging.WARNING if screen else logging.INFO)
    # It says so of every answer that was left without its end on purpose; `router.proxy` has said why.
    unfinished = "ASGI callable returned without completing response."
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.getMessage() != unfinished)
    # What is wrong with a form is told to who sent it.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def _detach(config: Config) -> None:
    """The same command in a session of its own, its output in the state folder; waits for it to be ready or to end."""
    from router.cli.screen import greeting, progress  # noqa: PLC0415

    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = config.state_dir / "router.log"
    client = Client(config.state_dir)
    with log.open("ab") as output:
        start = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "router", "up", "-c", str(config.file)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    with progress(sys.stderr.isatty()) as show:
        while True:
            if process.poll() is not None:
                fail(f"the router ended at once: {_last_words(log, start)}")
            try:
                if client.info().pid == process.pid and show(client.rows()):
                    break
            except NotRunning:
                pass
            time.sleep(0.1)
    click.echo(greeting(config, client.info().address))
    click.echo(f"It runs in the background (pid {process.pid}, log {log}); end it with `router down`.")


def _last_words(log: Path, start: int) -> str:
    lines = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"see {log}"

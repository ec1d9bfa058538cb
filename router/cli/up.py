import asyncio
import logging
import os
import shlex
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from router.cli.common import fail, file_option, load_or_exit
from router.cli.endings import Endings
from router.config import Config
from router.console.client import Client, NotRunning
from router.fleet.files import Files
from router.fleet.rows import Row
from router.log import configure

if TYPE_CHECKING:
    from router.app import Router

LOOK = 0.1
"""Seconds between two looks at a router in the background."""


@click.command(epilog="Example: router up -c router.yaml --detach")
@file_option
@click.option("--detach", is_flag=True, help="Return once everything is ready, and leave it running.")
@click.option(
    "--takeover", is_flag=True, help="Take the place of the router that runs, if one does, with its engines and socket."
)
def command(option: str | None, detach: bool, takeover: bool) -> None:
    """Start the engines and serve them until Ctrl-C; a second Ctrl-C waits for nothing.

    Engines that an earlier router left running, as it was killed, are adopted where the file still wants them as they
    are. On SIGHUP the file is applied anew, as by `router apply`.
    """
    endings = Endings()
    config = load_or_exit(option)
    if endings.any:
        sys.exit(1 if detach else 0)
    if detach:
        _detach(config, endings, takeover, "" if option is None else f" -c {shlex.quote(option)}")
    else:
        _run(config, endings, takeover)


def _run(config: Config, endings: Endings, takeover: bool) -> None:
    from router.app import Broken, Router  # noqa: PLC0415 - spares `--help` its import
    from router.sockets import CannotStart  # noqa: PLC0415

    screen = sys.stderr.isatty()
    configure(config.log_format, logging.WARNING if screen else logging.INFO, sys.stderr)
    try:
        anyio.run(_watched, Router(config), screen, endings, takeover, backend_options={"use_uvloop": True})
    except CannotStart as error:
        fail(str(error))
    except Broken as error:
        fail(f"ended, and its engines with it, by a fault of its own: {_where(error.__cause__)}; please report it")
    finally:
        _let_go_of_the_terminal()


def _let_go_of_the_terminal() -> None:
    """What is left for one that has gone cannot be written, and Python would call that a failure."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


async def _watched(router: "Router", screen: bool, endings: Endings, takeover: bool) -> None:
    from router.cli.screen import watch  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(router.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    endings.listen(lambda: loop.call_soon_threadsafe(router.end), lambda: loop.call_soon_threadsafe(reload))
    watching = asyncio.ensure_future(watch(router, screen))
    try:
        await router.run(takeover=takeover)
    finally:
        endings.ignore()
        watching.cancel()
        await asyncio.wait((watching,))


def _where(fault: BaseException | None) -> str:
    """A fault in one line."""
    last = traceback.extract_tb(fault.__traceback__)[-1] if fault is not None and fault.__traceback__ else None
    place = f" (in {last.name}, {last.filename}:{last.lineno})" if last else ""
    return f"{type(fault).__name__}: {fault}{place}"


def _detach(config: Config, endings: Endings, takeover: bool, named: str) -> None:
    """The same command in a session of its own, its output in the state folder; waits for it to be ready. If it ends
    first, an engine fails, or somebody stops the wait, nothing is left; but where it took over engines that served
    already, it stays. `named`: how the other commands are told the file."""
    from router.cli.screen import greeting  # noqa: PLC0415

    log = config.state_dir / "router.log"
    serves = takeover or any(Files(config.state_dir).run.glob("*.sock"))
    process, start = _start(config, log, takeover)
    try:
        failed = _wait(process, Client(config.state_dir), endings)
    except BaseException:
        if not serves:
            _end(process, endings)
        raise
    if process.poll() is not None:
        fail(f"the router ended at once: {_last_words(log, start)}")
    reason = f"{failed.model}#{failed.replica}: {failed.why}" if failed else "not everything is ready yet"
    if serves and (failed or endings.any):
        fail(f"{reason}; the router runs on (pid {process.pid}), see `router ps{named}`")
    if endings.any:
        _end(process, endings)
        fail("stopped before everything was ready; nothing runs now")
    if failed:
        _end(process, endings)
        fail(f"{reason}; nothing runs now, see {log} and `router logs {failed.model}{named}`")
    click.echo(greeting(config, Client(config.state_dir).info().address))
    click.echo(f"It runs in the background (pid {process.pid}, log {log}); end it with `router down{named}`.")


def _start(config: Config, log: Path, takeover: bool) -> tuple["subprocess.Popen[bytes]", int]:
    """The process, and where its part of the log begins."""
    try:
        Files(config.state_dir).make()
        log.touch(mode=0o600)
        with log.open("ab") as output:
            # -P: a folder or file `router` in the current directory is not this program.
            argv = [sys.executable, "-P", "-m", "router", "up", "-c", str(config.file)]
            argv += ["--takeover"] if takeover else []
            start = output.tell()
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
            return process, start
    except OSError as error:
        fail(f"cannot write {log}: {error.strerror}; set another `state_dir`")


def _wait(process: "subprocess.Popen[bytes]", client: Client, endings: Endings) -> Row | None:
    """The replica that failed, or None once all is ready, the router has ended or somebody has asked for its end."""
    from router.cli.screen import progress  # noqa: PLC0415

    with progress(sys.stderr.isatty()) as show:
        while process.poll() is None and not endings.any:
            try:
                rows = client.rows() if client.info().pid == process.pid else []
            except NotRunning:
                rows = []
            if failed := next((row for row in rows if row.error), None):
                return failed
            if rows and show(rows):
                break
            time.sleep(LOOK)
    return None


def _end(process: "subprocess.Popen[bytes]", endings: Endings) -> None:
    """Until it and its engines are gone; another Ctrl-C hurries it."""
    if not endings.any:
        process.terminate()
    endings.listen(process.terminate)
    process.wait()


def _last_words(log: Path, start: int) -> str:
    lines = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"see {log}"

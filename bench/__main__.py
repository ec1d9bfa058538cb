"""`python -m bench`: measure, and write RESULTS.md. `make bench` and `make bench-soak` call it."""

import fcntl
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import psutil

from bench import engines, figures, report, rounds
from bench.figures import Conditions, Results
from bench.ours import ROUTER
from bench.peers import KEY, PEERS, Peer
from bench.process import raise_limits
from bench.scenarios import BY_NAME, SCENARIOS
from bench.soak import soak as run_soak
from bench.start import start as run_start
from bench.tools import TOOLS, Unavailable, load_program, output

REAL = "engine"
"""The name of the runs with a real engine among the scenarios."""
ENGINE_ROUNDS = 2


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that all that was started is ended
    TOOLS.mkdir(exist_ok=True)
    raise_limits()
    with (TOOLS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            click.echo("another run is measuring; this one waits for its end", err=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        command()


@click.group(invoke_without_command=True)
@click.option("--peers", help="Only these peers (comma-separated); the router itself is always there.")
@click.option("--scenarios", help=f"Only these (comma-separated): {', '.join(BY_NAME)}, {REAL}.")
@click.option("--rounds", "number", type=int, help="How often all of it is done.  [default: 3; quick: 1]")
@click.option("--quick", is_flag=True, help="One round of the most important scenarios.")
@click.option("--update", is_flag=True, help="Leave the figures of all other scenarios as they are.")
@click.pass_context
def command(
    context: click.Context, peers: str | None, scenarios: str | None, number: int | None, quick: bool, update: bool
) -> None:
    """Measure the router beside others and write bench/RESULTS.md."""
    if context.invoked_subcommand:
        return
    names = _names(scenarios) or [*(s.name for s in SCENARIOS if s.quick or not quick), REAL]
    chosen = [*(PEERS[name] for name in (_names(peers) if peers is not None else PEERS)), ROUTER]
    load = load_program()
    found, missing = _installed(chosen)
    number = number or (1 if quick else 3)
    before = figures.load()
    results = Results(soak=before.soak, start=before.start)  # these are commands of their own
    began = time.monotonic()
    results.conditions = conditions = _conditions(found, missing, number)
    conditions.commands |= {name: f"load run {BY_NAME[name].flags}" for name in names if name != REAL}
    wanted = [BY_NAME[name] for name in names if name != REAL]
    results.samples = list(rounds.play(load, found, wanted, number))
    if REAL in names:
        _engines(load, results, [case for case in engines.CASES if case.quick or not quick], min(number, ENGINE_ROUNDS))
    conditions.minutes = (time.monotonic() - began) / 60
    if update:
        results = _merged(figures.load(), results, names)
    figures.save(results)
    report.write(results)
    click.echo(f"written: {report.FILE.relative_to(Path.cwd())}", err=True)


def _merged(old: Results, new: Results, names: Sequence[str]) -> Results:
    """The conditions stay those of the whole run, with a word on what was measured again."""
    old.samples = [sample for sample in old.samples if sample.scenario not in names] + new.samples
    if REAL in names:
        old.engines, old.engine_date = new.engines, new.engine_date
        old.engine_versions, old.engine_missing = new.engine_versions, new.engine_missing
    if old.conditions and new.conditions:
        old.conditions.command += f"; then `{new.conditions.command}` ({new.conditions.date})"
        old.conditions.commands |= new.conditions.commands
    return old


@command.command()
@click.option("--seconds", default=600.0, help="How long, after the warm-up.")
def soak(seconds: float) -> None:
    """Let it run at half load and see whether its memory grows."""
    results = figures.load()
    results.soak = run_soak(load_program(), seconds)
    figures.save(results)
    report.write(results)


@command.command()
@click.option("--rounds", default=7, help="How often, in turns.")
def start(rounds: int) -> None:
    """How long from `router up` to ready, beside the same engine alone."""
    results = figures.load()
    results.start = run_start(rounds)
    figures.save(results)
    report.write(results)


@command.command(name="report")
def write() -> None:
    """Write RESULTS.md anew from results.json."""
    report.write(figures.load())


def _names(text: str | None) -> list[str]:
    return [name for name in (text or "").split(",") if name]


def _installed(chosen: list[Peer]) -> tuple[dict[str, tuple[Peer, Path]], dict[str, str]]:
    found, missing = {}, {}
    for peer in chosen:
        try:
            found[peer.name] = (peer, peer.install())
        except Unavailable as error:
            missing[peer.name] = str(error)
            click.echo(f"{peer.name} is left out: {error}", err=True)
    return found, missing


def _engines(load: Path, results: Results, cases: Sequence[engines.Case], number: int) -> None:
    xinference = True
    try:
        engines.install_xinference()
    except Unavailable as error:
        xinference = False
        results.engine_missing["xinference"] = str(error)
    results.engine_versions = engines.versions(xinference=xinference)
    results.engine_date = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    try:
        results.engines.extend(engines.play(load, cases, number, xinference=xinference))
    except Unavailable as error:
        results.engine_missing[REAL] = str(error)
        click.echo(str(error), err=True)


def _conditions(found: Mapping[str, tuple[Peer, Path]], missing: dict[str, str], number: int) -> Conditions:
    words = [name for name in sys.argv[1:] if name]
    return Conditions(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        command=" ".join(["python -m bench", *words]),
        cpu=_cpu(),
        cores=psutil.cpu_count() or 0,
        memory=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        go=output(str(TOOLS / "load"), "version"),
        rounds=number,
        versions={name: peer.version(program) for name, (peer, program) in found.items()},
        about={name: peer.about for name, (peer, _) in found.items()},
        missing=missing,
        commands={name: _command(peer, program) for name, (peer, program) in found.items()},
    )


def _command(peer: Peer, program: Path) -> str:
    """How it is started, with names in place of this run's folder and ports."""
    with tempfile.TemporaryDirectory() as folder:
        command = peer.command(Path(program.name), Path(folder), 8000, 9000)
        words = [*(f"{name}={value}" for name, value in command.env.items()), *command.argv]
        return " ".join(words).replace(folder, "FOLDER").replace(KEY, "KEY")


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()

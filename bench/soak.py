"""The growth run: this router at half of what it can do, its memory every 10 s."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from bench.figures import Soak
from bench.measure import Meter, run_load
from bench.ours import ROUTER
from bench.process import OTHER, Process, free_port, wait_for_port
from bench.target import Target
from bench.tools import TOOLS

EVERY = 10.0
WARM = 60.0
"""Seconds; a shorter run warms up for a tenth of its time and looks twenty times."""


class Watch(Meter):
    """Looks at the memory from begin to end."""

    def __init__(self, target: Target, every: float) -> None:
        super().__init__(target.process)
        self.memory: list[int] = []
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def begin(self, load: int) -> None:
        super().begin(load)
        self._thread.start()

    def end(self, load: int) -> None:
        super().end(load)
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while self._process and not self._over.is_set():
            self.memory.append(self._process.memory())
            click.echo(f"{len(self.memory) * self._every:6.0f} s {self.memory[-1] / (1 << 20):8.2f} MiB", err=True)
            self._over.wait(self._every)


def soak(program: Path, seconds: float) -> Soak:
    """`seconds`: after the warm-up."""
    with Process(
        ["env", "GOMAXPROCS=1", str(program), "stub", "-listen", f"127.0.0.1:{(port := free_port())}"],
        OTHER,
        TOOLS / "stub.log",
    ):
        wait_for_port(port)
        target = Target.start(ROUTER, ROUTER.install(), port)
        try:
            return _run(program, target, seconds)
        finally:
            target.end()


def _run(program: Path, target: Target, seconds: float) -> Soak:
    started = datetime.now(UTC)
    flags = ["-size", "1400", "-connections", "32", *target.flags(embeddings=False)]
    full = run_load(program, [*flags, "-time", "5s"], 60, Meter(None))
    rate = full.requests / full.seconds / 2
    warm, every = (WARM, EVERY) if seconds >= 10 * WARM else (seconds / 10, seconds / 20)
    click.echo(f"{rate:.0f} requests a second, half of what it can do", err=True)
    watch = Watch(target, every)
    paced = [*flags, "-rate", f"{rate:.1f}", "-time", f"{seconds}s", "-warm", f"{warm}s"]
    load = run_load(program, paced, seconds + warm + 60, watch)
    return Soak(
        date=f"{started:%Y-%m-%d %H:%M} UTC",
        version=ROUTER.version(ROUTER.install()),
        rate=rate,
        seconds=time.time() - started.timestamp(),
        every=every,
        memory=watch.memory,
        requests=load.requests,
        errors=load.errors,
    )

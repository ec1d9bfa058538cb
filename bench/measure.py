"""One run: the load generator asks a target, and the target's CPU and memory are read at both ends of what counts."""

import json
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from bench.figures import Load, Sample
from bench.process import OTHER, Process, cpu_of, cpu_of_cores, pinned
from bench.scenarios import Scenario
from bench.target import Target

SETTLE = 0.3
"""Seconds after the last answer at which memory is read."""


class Slow(Exception):
    """The load did not end in its time."""


class Meter:
    """CPU in µs between begin and end, memory in bytes around it. Without a process (the stub itself) all are 0.

    `others`: µs that anything else than the target, the stub and the load ran meanwhile."""

    def __init__(self, process: Process | None, stub: Process | None = None) -> None:
        self._process = process
        self._stub = stub
        self.cpu = self.others = 0.0
        self.before = self.peak = self.after = 0
        if process:
            self.before = process.memory()
            process.forget_peak()

    def begin(self, load: int) -> None:
        """`load`: the pid of the load."""
        self.others = -self._others(load)
        if self._process:
            self.cpu = -self._process.cpu()

    def end(self, load: int) -> None:
        if self._process:
            self.cpu += self._process.cpu()
        self.others += self._others(load)

    def close(self) -> None:
        if self._process:
            self.peak = self._process.peak()
            time.sleep(SETTLE)
            self.after = self._process.memory()

    def _others(self, load: int) -> float:
        parts = [process.cpu_of_all() for process in (self._process, self._stub) if process]
        return cpu_of_cores() - cpu_of(load) - sum(parts)


def measure(program: Path, scenario: Scenario, target: Target, stub: Process, number: int) -> Sample:
    meter = Meter(target.process, stub)
    sample = Sample(scenario.name, target.name, number)
    flags = [*scenario.flags.split(), *target.flags(embeddings=scenario.embeddings)]
    try:
        sample.load = run_load(program, flags, scenario.limit, meter)
    except Slow as error:
        sample.fault = str(error)
    meter.close()
    sample.cpu, sample.before, sample.peak, sample.after = meter.cpu, meter.before, meter.peak, meter.after
    if sample.load:
        sample.others = meter.others / 1e6 / sample.load.seconds
    if sample.load and sample.load.errors:
        text, count = max(sample.load.errors.items(), key=lambda item: item[1])
        sample.fault = f"{sum(sample.load.errors.values())} errors, {count} of them: {text}"
    return sample


def run_load(program: Path, flags: list[str], limit: float, meter: Meter, core: int = OTHER) -> Load:
    """`limit`: seconds, after which the load is ended."""
    load = subprocess.Popen(
        pinned(core, ["env", "GOMAXPROCS=1", str(program), "run", *flags]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    timer = threading.Timer(limit, load.kill)
    timer.start()
    try:
        return _follow(load, limit, meter)
    finally:
        timer.cancel()
        load.kill()
        load.wait()


def _follow(load: "subprocess.Popen[bytes]", limit: float, meter: Meter) -> Load:
    if not load.stdin or not load.stdout:
        raise ValueError("the load is not connected")
    for line in load.stdout:
        match json.loads(line)["at"]:
            case "begin":
                meter.begin(load.pid)
                with suppress(BrokenPipeError):
                    load.stdin.write(b"\n")
                    load.stdin.flush()
            case "end":
                meter.end(load.pid)
            case _:
                return msgspec.json.decode(line, type=Load)
    raise Slow(f"not done after {limit:g} s")

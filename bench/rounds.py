"""The order of things: in each round each scenario, in each scenario all targets one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from bench.figures import Sample
from bench.measure import measure
from bench.ours import VARIANTS
from bench.peers import Peer
from bench.process import OTHER, Process, free_port, wait_for_port
from bench.scenarios import Scenario
from bench.target import CannotStart, Target
from bench.tools import TOOLS

DIRECT = "direct"
DISTURBED = 0.15
"""Share of one core that others may take from a run."""
TRIES = 2


class Field:
    """The peers of one round, all started and all but one paused; a scenario that wants a fresh one gets its own."""

    def __init__(self, load: Path, peers: Mapping[str, tuple[Peer, Path]], number: int) -> None:
        self._load = load
        self._peers = peers
        self._number = number
        self._stack = ExitStack()
        self._engine = free_port()
        self._targets: dict[str, Target] = {}
        self._broken: dict[str, str] = {}

    def __enter__(self) -> "Field":
        stub = ["env", "GOMAXPROCS=1", str(self._load), "stub", "-listen", f"127.0.0.1:{self._engine}"]
        self._stub = self._stack.enter_context(Process(stub, OTHER, TOOLS / "stub.log"))
        wait_for_port(self._engine)
        self._targets[DIRECT] = Target(DIRECT, self._engine)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, scenario: Scenario) -> Iterator[Sample]:
        names = scenario.targets or (DIRECT, *self._peers)
        turn = self._number % len(names)
        for name in (*names[turn:], *names[:turn]):  # nobody is always the first
            yield self._sample(scenario, name)

    def _sample(self, scenario: Scenario, name: str) -> Sample:
        fault = scenario.skip.get(name) or self._broken.get(name)
        if fault:
            return Sample(scenario.name, name, self._number, fault=fault)
        try:
            return self._measure(scenario, name)
        except CannotStart as error:
            self._broken[name] = f"does not start: {error}"
            return Sample(scenario.name, name, self._number, fault=self._broken[name])

    def _measure(self, scenario: Scenario, name: str) -> Sample:
        """Again where something else was busy on the machine; the run that was disturbed least counts."""
        once = self._measure_running if name == DIRECT or not scenario.fresh else self._measure_fresh
        samples: list[Sample] = []
        while not samples or (samples[-1].others > DISTURBED and len(samples) < TRIES):
            samples.append(once(scenario, name))
        return min(samples, key=lambda sample: sample.others)

    def _measure_fresh(self, scenario: Scenario, name: str) -> Sample:
        target = self._start(name)
        try:
            return measure(self._load, scenario, target, self._stub, self._number)
        finally:
            target.end()

    def _measure_running(self, scenario: Scenario, name: str) -> Sample:
        target = self._running(name)
        if target.process:
            target.process.resume()
        try:
            return measure(self._load, scenario, target, self._stub, self._number)
        finally:
            if target.process:
                target.process.pause()

    def _running(self, name: str) -> Target:
        if name not in self._targets:
            self._targets[name] = target = self._start(name)
            self._stack.callback(target.end)
        return self._targets[name]

    def _start(self, name: str) -> Target:
        peer, program = self._peers.get(name) or self._variant(name)
        return Target.start(peer, program, self._engine)

    def _variant(self, name: str) -> tuple[Peer, Path]:
        peer = VARIANTS[name]()
        return peer, peer.install()


def play(
    load: Path, peers: Mapping[str, tuple[Peer, Path]], scenarios: Sequence[Scenario], rounds: int
) -> Iterator[Sample]:
    for number in range(rounds):
        with Field(load, peers, number) as field:
            for scenario in scenarios:
                if number < scenario.rounds:
                    for sample in field.play(scenario):
                        click.echo(_line(sample), err=True)
                        yield sample


def _line(sample: Sample) -> str:
    start = f"round {sample.round + 1}  {sample.scenario:22} {sample.target:14}"
    load = sample.load
    if load is None:
        return f"{start} {sample.fault}"
    count = load.events or load.requests
    speed = (
        f"{load.requests / load.seconds:8.0f} requests/s {sample.cpu / max(count, 1):8.1f} µs {sample.peak >> 20:5} MiB"
    )
    times = " ".join(
        f"{name} {value.p50 / 1e3:.2f}/{value.p99 / 1e3:.2f}"
        for name, value in (("latency", load.latency), ("first", load.first), ("gap", load.gap))
        if value
    )
    return f"{start} {speed}  {times} ms  others {sample.others:.0%}  {sample.fault}"

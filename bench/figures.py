"""The raw figures, as they stand in `results.json`: everything that the report says is computed from them."""

import json
from pathlib import Path
from typing import Any

import msgspec

FILE = Path(__file__).parent / "results.json"


class Quantiles(msgspec.Struct):
    """µs."""

    count: int
    p50: float
    p90: float
    p99: float
    max: float


class Load(msgspec.Struct):
    """What the load generator printed at its end."""

    seconds: float
    requests: int
    bytes: int
    events: int
    lost: int
    reconnects: int
    errors: dict[str, int]
    latency: Quantiles | None = None
    first: Quantiles | None = None
    gap: Quantiles | None = None
    delay: Quantiles | None = None


class Sample(msgspec.Struct):
    """One run of one scenario with one target. Memory in bytes; `cpu`: µs of the target alone while it was measured.
    `others`: what ran on the machine meanwhile and had no part in it, as a share of one core.
    `fault`: why there are no figures, or why they do not count."""

    scenario: str
    target: str
    round: int
    load: Load | None = None
    cpu: float = 0
    others: float = 0
    before: int = 0
    peak: int = 0
    after: int = 0
    fault: str = ""


class Engine(msgspec.Struct):
    """One run with a real engine."""

    case: str
    target: str
    round: int
    load: Load | None = None
    fault: str = ""


class Soak(msgspec.Struct):
    """`memory`: resident bytes every `every` seconds, after the warm-up."""

    date: str
    version: str
    rate: float
    seconds: float
    every: float
    memory: list[int]
    requests: int
    errors: dict[str, int]


class Start(msgspec.Struct):
    """Seconds until ready, of the same engine by the router and alone, in turns."""

    date: str
    version: str
    router: list[float] = []
    bare: list[float] = []


class Conditions(msgspec.Struct):
    date: str
    command: str
    cpu: str
    cores: int
    memory: int
    system: str
    python: str
    go: str
    rounds: int
    minutes: float = 0
    versions: dict[str, str] = {}
    about: dict[str, str] = {}
    missing: dict[str, str] = {}
    commands: dict[str, str] = {}


class Results(msgspec.Struct):
    conditions: Conditions | None = None
    samples: list[Sample] = []
    engine_date: str = ""
    engine_versions: dict[str, str] = {}
    engine_missing: dict[str, str] = {}
    engines: list[Engine] = []
    soak: Soak | None = None
    start: Start | None = None


def load() -> Results:
    return msgspec.json.decode(FILE.read_bytes(), type=Results) if FILE.exists() else Results()


def save(results: Results) -> None:
    text: Any = msgspec.to_builtins(results)
    FILE.write_text(json.dumps(text, indent=1) + "\n")

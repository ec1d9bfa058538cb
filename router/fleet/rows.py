"""What people are shown of the fleet."""

from typing import Literal

import msgspec

from router.fleet.diagnosis import Diagnosis


class Info(msgspec.Struct, frozen=True):
    """Which router runs."""

    pid: int
    address: str
    version: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One replica, as `router ps` shows it. `last_line` is what a starting engine printed last, or
    what its start waits for; `circuit`, of a ready
    one, whether it gets requests: all (closed), none (open), one at a time (half_open). `terminated`: by somebody's
    wish, so that nobody waits for it."""

    model: str
    replica: int
    engine: str
    state: str
    pid: int | None
    address: str | None
    gpus: list[str] | None
    uptime_s: float | None
    restarts: int
    in_flight: int
    error: str | None
    state_s: float
    last_line: str
    diagnosis: Diagnosis | None = None
    circuit: str | None = None
    terminated: bool = False

    @property
    def why(self) -> str:
        """Why it failed, and what to do, in one line; as much as is known."""
        if self.diagnosis is None:
            return self.error or ""
        return f"{self.diagnosis.cause}; {self.diagnosis.remedy}"


class Step(msgspec.Struct, frozen=True):
    """What a changed file does to one model. `fields` are what differs in the file.

    keep: nothing. update: only what the router does with it, its engines go on. scale: replicas come or go, the others
    stay. replace: other engines follow the ones that run. add, remove.
    """

    model: str
    action: Literal["keep", "update", "scale", "replace", "add", "remove"]
    fields: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """What a changed file does. `settings`: those of the whole router that change. `refused`: why it cannot be applied
    while the router runs; then nothing of it is."""

    steps: tuple[Step, ...]
    settings: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

"""What people are shown of the fleet."""

import msgspec


class Info(msgspec.Struct, frozen=True):
    """Which router runs."""

    pid: int
    address: str
    version: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One replica, as `router ps` shows it. `last_line` is what a starting engine printed last."""

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

"""Values with units, secrets, and the fault that a bad one leads to."""

import re
from typing import Any

import msgspec

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


class Duration(float):
    """Seconds, written `500ms`, `30s`, `10m`, `1h30m`."""


class Size(int):
    """Bytes, written `64MiB`, `18GiB`, `500MB`."""


class Secret(str):
    """A string that is never printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(…)"


def parse_duration(value: object) -> Duration:
    """Raises ValueError with the remedy."""
    text = value if isinstance(value, str) else ""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if value == 0:
        return Duration(0)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{value!r} is not a duration; write a number and a unit, like 500ms, 30s, 10m or 1h30m")
    return Duration(sum(float(number) * SECONDS[unit] for number, unit in parts))


def parse_size(value: object) -> Size:
    """Raises ValueError with the remedy."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]i?B|B)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size; write a number and a unit, like 512KiB, 64MiB or 18GiB")
    return Size(float(match[1]) * BYTES[match[2]])


def decode(kind: type, value: object) -> Any:
    """msgspec's `dec_hook` for the types above."""
    if kind is Duration:
        return parse_duration(value)
    if kind is Size:
        return parse_size(value)
    if kind is Secret:
        if not isinstance(value, str) or not value:
            raise ValueError("expected a string that is not empty; set the variable or the file it comes from")
        return Secret(value)
    raise NotImplementedError(kind)


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong in the file: where, what, and what to do. `line` counts from 1; 0 when it belongs to no line."""

    path: str
    line: int
    problem: str
    remedy: str

    def render(self, file: str) -> str:
        where = f"{file}:{self.line}" if self.line else file
        what = f"{self.path}: {self.problem}" if self.path else self.problem
        return f"{where}: {what}; {self.remedy}" if self.remedy else f"{where}: {what}"


class ConfigError(Exception):
    """The file cannot be used; `faults` are all the reasons, in the file's order."""

    def __init__(self, file: str, faults: list[Fault]) -> None:
        self.file = file
        self.faults = sorted(faults, key=lambda fault: (fault.line, fault.path))
        super().__init__("\n".join(fault.render(file) for fault in self.faults))

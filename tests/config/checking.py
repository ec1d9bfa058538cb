"""A file, checked: what it comes to, or its faults as `router check` prints them."""

from collections.abc import Mapping
from pathlib import Path

from router.config import Config, ConfigError, load


class Gpu:
    def __init__(self, index: int) -> None:
        self.index, self.uuid = index, f"GPU-{index}"


def read(folder: Path, text: str | bytes, environment: Mapping[str, str] | None = None) -> Config:
    file = folder / "router.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(file, lambda: [Gpu(0), Gpu(1)], environment or {})


def faults(folder: Path, text: str | bytes, environment: Mapping[str, str] | None = None) -> list[str]:
    """Each as `LINE PATH: PROBLEM; REMEDY`."""
    try:
        read(folder, text, environment)
    except ConfigError as error:
        return [
            f"{fault.line} {fault.render('F').partition(': ')[2]}".replace(str(folder), "DIR") for fault in error.faults
        ]
    return []


def starts(found: list[str], expected: list[str]) -> bool:
    return len(found) == len(expected) and all(
        line.startswith(start) for line, start in zip(found, expected, strict=True)
    )

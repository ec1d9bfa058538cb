"""Prints what was read of logs."""

import re
import sys
from collections.abc import Iterable

from router.cli.log_reader import Line

UNSAFE = re.compile(
    rb"(\x1b\[[0-9;:]*m)|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]"
    rb"|\xc2[\x80-\x9f]"
)
"""What an engine, or who makes it print something, may not tell a terminal; colours, the group, it may."""


class Printer:
    """Writes lines to stdout. An unfinished one is shown as far as it goes; where another replica comes in between, its
    rest gets a line of its own."""

    def __init__(self, name: str, timestamps: bool) -> None:
        self._name, self._timestamps = name, timestamps
        self._out = sys.stdout.buffer
        self._terminal = sys.stdout.isatty()
        self._open: int | None = None
        """Whose line is unfinished."""

    def print(self, lines: Iterable[Line], *, labelled: bool) -> None:
        """With `labelled`, each with the name of its replica in front. Raises OSError."""
        for line in lines:
            self._write(line, labelled)
        self._out.flush()

    def _write(self, line: Line, labelled: bool) -> None:
        if self._open is not None and (line.begins or self._open != line.replica):
            self._out.write(b"\n")
            self._open = None
        if self._open is None and labelled:
            self._out.write(f"{self._name}#{line.replica} | ".encode())
        text = line.stamp + line.text if self._timestamps else line.text
        self._out.write(UNSAFE.sub(rb"\1", text) if self._terminal else text)
        self._open = None if line.text.endswith(b"\n") else line.replica

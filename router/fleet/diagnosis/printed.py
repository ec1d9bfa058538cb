"""What one run of an engine printed, out of the log of all its runs."""

import os
import time
from itertools import dropwhile
from pathlib import Path

from router.fleet.diagnosis.text import LONGEST

_TIME = len("2026-11-20T10:00:00.123")


def printed(log: Path, since: float) -> str:
    """The end of what stands in `log` from `since` (as `time.time()` has it) on, at most 64 KiB, with the time in front
    of each line (see `keeper_log.py`). What was rotated away last counts too. Empty where the log cannot be read."""
    first = _stamp(since)
    text = (_end(log.with_name(f"{log.name}.1")) + _end(log))[-LONGEST:].decode(errors="replace")
    return "".join(dropwhile(lambda line: not _is_from(line, first), text.splitlines(keepends=True)))


def _end(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - LONGEST))
            return opened.read()
    except OSError:
        return b""


def _is_from(line: str, first: str) -> bool:
    """Such times are in the order of their text."""
    return line[_TIME : _TIME + 2] == "Z " and line[:_TIME] >= first


def _stamp(when: float) -> str:
    second, millisecond = divmod(int(when * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{millisecond:03}"

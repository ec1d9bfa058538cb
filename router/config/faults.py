"""What is wrong in the file, in words that a person can act on."""

import json
import re

import msgspec

Where = tuple[str | int, ...]
"""A place in the file: `("models", "qwen", "gpus", 1)`."""

_PLAIN = re.compile(r"[\w./:@+-]{1,80}")
_LONGEST = 80


def render(where: Where) -> str:
    """`("models", "qwen", "gpus", 1)` as `models.qwen.gpus[1]`."""
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = part if _PLAIN.fullmatch(part) else quoted(part)
            text += f".{word}" if text else word
    return text


def quoted(text: str) -> str:
    """`text` in quotes on one line, cut where it is long."""
    return json.dumps(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…", ensure_ascii=False)


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

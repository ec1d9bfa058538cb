"""The file as plain data: where everything stands, what was wrong with it, and what must not be repeated of it."""

import re
from typing import Any

from router.config.faults import Fault, Where, quoted, render

ABSENT: Any = object()
"""What a value becomes that cannot be used; its fault is already in the document."""


class Document:
    """What the file says, and the faults found in it so far.

    `data` is None when the file cannot be read as a mapping. `lines` tells where each place stands; `texts` how each
    value that YAML does not take for text is written; `filled` which variables stood where. Values that came from the
    environment are shown as `${NAME}` in every fault.
    """

    def __init__(self) -> None:
        self.data: dict[str, Any] | None = None
        self.lines: dict[Where, int] = {}
        self.texts: dict[Where, str] = {}
        self.filled: dict[Where, set[str]] = {}
        self._found: dict[Fault, None] = {}
        self._hidden: dict[str, str] = {}

    def hide(self, value: str, name: str) -> None:
        self._hidden[value] = name

    def line(self, where: Where) -> int:
        """The line of `where`, or of its nearest parent that stands in the file."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 0)

    def fault(self, where: Where, problem: str, remedy: str, *, line: int | None = None) -> None:
        """Notes it, once."""
        found = Fault(
            render(where), self.line(where) if line is None else line, self.masked(problem), self.masked(remedy)
        )
        self._found[found] = None

    @property
    def faults(self) -> list[Fault]:
        return list(self._found)

    def show(self, value: object) -> str:
        """A value of the file as a fault may show it."""
        if isinstance(value, bool) or value is None:
            return {True: "true", False: "false", None: "nothing"}[value]
        if isinstance(value, str):
            return quoted(self.masked(value))
        if isinstance(value, int | float):
            # An integer of thousands of digits cannot even be printed.
            return self.masked(str(value)) if isinstance(value, float) or abs(value) < 10**18 else "a huge number"
        return "a list" if isinstance(value, list) else "a mapping"

    def masked(self, text: str) -> str:
        """`text` without the environment's values. A short one is replaced only where it stands as a word."""
        if not self._hidden:
            return text
        longest_first = sorted(self._hidden, key=len, reverse=True)
        values = "|".join(
            re.escape(value) if len(value) > 3 else rf"(?<!\w){re.escape(value)}(?!\w)" for value in longest_first
        )
        return re.sub(values, lambda match: f"${{{self._hidden[match[0]]}}}", text)

"""One row of the table of causes."""

from collections.abc import Mapping

import msgspec


class Cause(msgspec.Struct, frozen=True):
    """A reason for which engines fail, and how it shows in their logs.

    `signs` are phrases, one of which stands in one line; `…` in a phrase is anything. They are no regular expressions,
    so that a log of any shape is read in linear time. `own` is the remedy where an engine (by its launcher's name) has
    an option for it. `secondary`: often it only follows from another cause, so it counts where no other is found.
    `warned`: it counts even in a line that its engine calls a warning.
    """

    cause: str
    signs: tuple[str, ...]
    remedy: str
    own: Mapping[str, str] = {}
    secondary: bool = False
    warned: bool = False

    def remedy_for(self, engine: str) -> str:
        return self.own.get(engine, self.remedy)

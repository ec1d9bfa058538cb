"""What stands behind the catalogue, as far as the public paths ask for it."""

from typing import Protocol

from router.fleet.facts import Facts
from router.fleet.rows import Row


class Library(Protocol):
    """Where the facts of models come from."""

    async def facts(self, name: str) -> Facts:
        """Of a model, by its name in the file. It takes seconds at most, and never fails."""


class Engines(Protocol):
    """The engines of this router."""

    @property
    def guarded(self) -> bool:
        """Whether keys are declared."""

    def rows(self) -> list[Row]: ...
    def start_model(self, name: str) -> bool:
        """What was terminated starts again. False: none of that name are started here."""

    def stop_model(self, name: str) -> bool:
        """They end, though the file declares them. False: none of that name are started here."""


class House(Library, Engines, Protocol):
    """Both."""

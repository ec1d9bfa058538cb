"""What a hub is to a download, and what can go wrong with one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

Report = Callable[[int], None]
"""Told of bytes that have come; less than zero where some have to come again. Called from any thread."""


class PullFailed(Exception):
    """A model could not be downloaded. The message says what is wrong and what to do about it."""


class File(msgspec.Struct, frozen=True):
    """A file of a repository. `held`: the bytes of it that are on disk, all of them or the beginning. `digest`: what
    the hub knows its content by, empty if it does not say."""

    path: str
    size: int
    held: int
    digest: str


class Listing(msgspec.Struct, frozen=True):
    """The files of a repository at one commit."""

    commit: str
    files: tuple[File, ...]


class Hub(Protocol):
    """One repository of a hub. Both methods raise PullFailed."""

    name: str
    cache: Path

    def look(self) -> Listing:
        """Asks the hub, and the cache for what it holds already."""

    def fetch(self, commit: str, files: Sequence[File], report: Report) -> Path:
        """Brings `files` into the cache, going on where an earlier one ended; the folder that engines find them in."""

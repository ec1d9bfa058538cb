"""What the parts of the check share: the document, the folder that relative paths start from, this machine's GPUs."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from router.config.document import Document


class GpuIdentity(Protocol):
    """What the check of `gpus:` needs to know of a GPU."""

    @property
    def index(self) -> int: ...
    @property
    def uuid(self) -> str: ...


class Scope:
    """One check of one document."""

    def __init__(self, document: Document, base: Path, inventory: Callable[[], Sequence[GpuIdentity]]) -> None:
        self.document = document
        self.base = base
        self._inventory = inventory

    @cached_property
    def gpus(self) -> Sequence[GpuIdentity]:
        """Asked for only when a model names some."""
        return self._inventory()

    def path(self, text: str) -> Path:
        """Absolute; `~` is the home folder, relative is to the file's folder."""
        return Path(os.path.abspath(self.base / os.path.expanduser(text)))

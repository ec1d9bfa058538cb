"""The names that clients use."""

import difflib
import heapq
from collections.abc import Iterable, Iterator
from itertools import pairwise

from router.catalog.model import Model
from router.errors import ModelNotFound


class Catalog:
    """Every public name, each with its model."""

    def __init__(self, models: Iterable[Model]) -> None:
        self._models: dict[str, Model] = {}
        self._names: dict[str, Model] = {}
        self.replace(models)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def replace(self, models: Iterable[Model]) -> None:
        """From here on these names and aliases, and no others. A model whose name is there already stays, with its
        replicas and those that wait, and takes what the new one declares; those that are no longer named are closed."""
        before, declared = self._models, list(models)
        self._models = {model.name: before.get(model.name, model) for model in declared}
        for model in declared:
            self._models[model.name].declare(model)
        self._names = {alias: model for model in self._models.values() for alias in (model.name, *model.aliases)}
        for name in before.keys() - self._models.keys():
            before[name].close()

    def resolve(self, name: str) -> Model:
        """The model that answers to `name`, or `ModelNotFound` with the nearest names."""
        model = self._names.get(name)
        if model is None:
            raise ModelNotFound(f"The model '{name[:200]}' does not exist. {self._hint(name[:200])}", param="model")
        return model

    @property
    def names(self) -> list[str]:
        """All names that `resolve` takes, aliases included, in the file's order."""
        return list(self._names)

    def _hint(self, name: str) -> str:
        # difflib takes 55 us a name, so it gets only those that share most pairs of letters (3 us a name).
        wanted = _pairs(name)
        likely = heapq.nlargest(16, self._names, key=lambda other: len(wanted & _pairs(other)))
        near = difflib.get_close_matches(name, likely, n=3, cutoff=0.5) or sorted(self._names)[:3]
        return f"Nearest: {', '.join(near)}. GET /v1/models lists all." if near else "No model is declared."


def _pairs(name: str) -> set[tuple[str, str]]:
    return set(pairwise(name))

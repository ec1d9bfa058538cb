"""The names that clients use."""

import difflib
import heapq
from collections.abc import Iterable, Iterator
from itertools import pairwise

from router.catalog.hops import Edits, Group, Hop
from router.catalog.model import Model
from router.errors import ModelNotFound


class Catalog:
    """Every public name, each with its model, or its group of models."""

    def __init__(self, models: Iterable[Model], groups: Iterable[Group] = ()) -> None:
        self._models: dict[str, Model] = {}
        self._groups: dict[str, Group] = {}
        self._names: dict[str, Model | Group] = {}
        self._hops: dict[str, tuple[Hop, ...]] = {}
        self.replace(models, groups)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def replace(self, models: Iterable[Model], groups: Iterable[Group] = ()) -> None:
        """From here on these names and aliases, and no others. A model whose name is there already stays, with its
        replicas and those that wait, and takes what the new one declares; those that are no longer named are closed."""
        before, declared = self._models, list(models)
        self._models = {model.name: before.get(model.name, model) for model in declared}
        for model in declared:
            self._models[model.name].declare(model)
        self._groups = {group.name: group for group in groups}
        entries: list[Model | Group] = [*self._models.values(), *self._groups.values()]
        self._names = {name: entry for entry in entries for name in (entry.name, *entry.aliases)}
        self._hops = {name: self._chain(name) for name, entry in self._names.items() if isinstance(entry, Model)}
        for name in before.keys() - self._models.keys():
            before[name].close()

    def resolve(self, name: str) -> Model:
        """The model that answers to `name`, or `ModelNotFound` with the nearest names."""
        entry = self.entry(name)
        if not isinstance(entry, Model):
            raise self._unknown(name)
        return entry

    def entry(self, name: str) -> Model | Group:
        """What `name` stands for, or `ModelNotFound` with the nearest names."""
        entry = self._names.get(name)
        if entry is None:
            raise self._unknown(name)
        return entry

    def hops(self, name: str) -> tuple[Hop, ...]:
        """The models to ask for `name`, the first one first, the others should it fail. Raises ModelNotFound."""
        return self._hops.get(name) or self._group_hops(name)

    def serving(self, path: str) -> list[str]:
        """The names of the models and groups whose engines have a public path."""
        groups = self._groups.values()
        return [
            *(model.name for model in self if model.offers(path)),
            *(each.name for each in groups if any(self.resolve(name).offers(path) for name, _ in each.members)),
        ]

    @property
    def names(self) -> list[str]:
        """All names that are taken, aliases included, in the file's order."""
        return list(self._names)

    def _chain(self, name: str) -> tuple[Hop, ...]:
        """A model, then what stands in for it."""
        return _once((self._hop(name), *self._stand_ins(self._names[name])))

    def _group_hops(self, name: str) -> tuple[Hop, ...]:
        group = self.entry(name)
        if not isinstance(group, Group):
            raise self._unknown(name)
        edits = _own_edits(group, name)
        members = (self._hop(each, edits) for each in group.order(self.resolve))
        return _once((*members, *self._stand_ins(group)))

    def _stand_ins(self, entry: Model | Group) -> Iterator[Hop]:
        """Of a group all members, in the file's order. Each is asked as it would be by the name that stands here."""
        for name in entry.manner.fallback:
            other = self._names[name]
            if isinstance(other, Group):
                yield from (self._hop(member, _own_edits(other, name)) for member, _ in other.members)
            else:
                yield self._hop(name)

    def _hop(self, name: str, edits: tuple[Edits, ...] = ()) -> Hop:
        model = self.resolve(name)
        return Hop(name, model, (*_own_edits(model, name), *edits))

    def _unknown(self, name: str) -> ModelNotFound:
        return ModelNotFound(f"The model '{name[:200]}' does not exist. {self._hint(name[:200])}", param="model")

    def _hint(self, name: str) -> str:
        # difflib takes 55 us a name, so it gets only those that share most pairs of letters (3 us a name).
        wanted = _pairs(name)
        likely = heapq.nlargest(16, self._names, key=lambda other: len(wanted & _pairs(other)))
        near = difflib.get_close_matches(name, likely, n=3, cutoff=0.5) or sorted(self._names)[:3]
        return f"Nearest: {', '.join(near)}. GET /v1/models lists all." if near else "No model is declared."


def _own_edits(entry: Model | Group, name: str) -> tuple[Edits, ...]:
    edits = entry.manner.edits.get(name)
    return () if edits is None else (edits,)


def _once(hops: Iterable[Hop]) -> tuple[Hop, ...]:
    """Each name where it stands first."""
    found: dict[str, Hop] = {}
    for hop in hops:
        found.setdefault(hop.name, hop)
    return tuple(found.values())


def _pairs(name: str) -> set[tuple[str, str]]:
    return set(pairwise(name))

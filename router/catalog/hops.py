"""What a public name leads to: the models to ask, one after the other, and what each is asked differently."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from router.catalog.model import Model


class Edits(Protocol):
    """What changes in the members of a request: those that are left out, set, and set where the client said nothing."""

    @property
    def drop(self) -> Sequence[str]: ...
    @property
    def set(self) -> Mapping[str, Any]: ...
    @property
    def default(self) -> Mapping[str, Any]: ...


class Wants(Protocol):
    """What an answer of the model shall be like, whatever its engine makes of it. `normalize_scores`: within 0 to 1;
    `decode_openai_tokens`: inputs may be OpenAI's token numbers; `max_inputs`: so many at a time are asked."""

    @property
    def normalize_scores(self) -> bool: ...
    @property
    def decode_openai_tokens(self) -> bool: ...
    @property
    def max_inputs(self) -> int | None: ...


class AsItIs(msgspec.Struct, frozen=True):
    """Wants nothing."""

    normalize_scores: bool = False
    decode_openai_tokens: bool = False
    max_inputs: int | None = None


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is asked, but for its engine. `edits` of the requests by one of its names; `fallback`: the names that
    stand in for it; `info`: what is told of it besides."""

    edits: Mapping[str, Edits] = {}
    fallback: tuple[str, ...] = ()
    wants: Wants = AsItIs()
    info: Mapping[str, Any] = {}


class Hop(msgspec.Struct, frozen=True):
    """A model that is asked by one of its public names, which may be a LoRA adapter's. `edits` come one after the
    other: the name's own, then a group's."""

    name: str
    model: "Model"
    edits: tuple[Edits, ...] = ()


class Group:
    """A public name over several models: each gets its share of the requests, the others stand in for it. `members` are
    public names too: a model's, an alias', a LoRA adapter's."""

    def __init__(
        self,
        name: str,
        *,
        kind: str,
        members: Iterable[tuple[str, int]],
        aliases: Iterable[str] = (),
        manner: Manner = Manner(),  # noqa: B008 - it is frozen
        created: int = 0,
    ) -> None:
        self.name, self.kind, self.aliases, self.manner, self.created = name, kind, tuple(aliases), manner, created
        self.members = tuple(members)
        self._due = dict.fromkeys((name for name, _ in self.members), 0)

    def order(self, resolve: Callable[[str], "Model"]) -> list[str]:
        """The members, the one that is due first. Smooth weighted round robin among those that are ready: after any
        number of requests each is within one of its share."""
        ready = [(name, weight) for name, weight in self.members if resolve(name).ready]
        if not ready:
            return [name for name, _ in self.members]
        for name, weight in ready:
            self._due[name] += weight
        first = max(ready, key=lambda member: self._due[member[0]])[0]
        self._due[first] -= sum(weight for _, weight in ready)
        others = sorted(self.members, key=lambda member: (not resolve(member[0]).ready, -member[1]))
        return [first, *(name for name, _ in others if name != first)]

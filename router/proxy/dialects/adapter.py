"""What a request becomes for its engine, and how the engine's answer becomes the client's."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import msgspec


class NotUnderstood(ValueError):
    """An answer of status 200 that is not what such an engine answers."""


class Wants(Protocol):
    """What the file says of the model."""

    @property
    def normalize_scores(self) -> bool:
        """Rerank scores shall be within 0 to 1."""

    @property
    def decode_openai_tokens(self) -> bool:
        """Token numbers in embeddings are cl100k's, whatever the engine's own are."""

    @property
    def max_inputs(self) -> int | None:
        """As many embeddings in one request to the engine."""


class Adapter(Protocol):
    @property
    def bodies(self) -> Sequence[bytes]:
        """What the engine is asked, one after the other; `model` in each is still the client's."""

    @property
    def whole(self) -> bool:
        """Whether `answer` must be given the whole answers; else they pass as they come."""

    def answer(self, answers: Sequence[bytes]) -> bytes:
        """The client's answer. `answers`: as many whole JSON answers of status 200 as `bodies`, in their order. Raises
        NotUnderstood."""


class Changed(msgspec.Struct, frozen=True):
    """One body that differs from the client's. The answer is as it should be."""

    bodies: tuple[bytes]
    whole: ClassVar[bool] = False

    def answer(self, answers: Sequence[bytes]) -> bytes:
        return answers[0]

"""Which engine gave an answer that is asked for again by its id: a response, a video."""

import re
from collections import OrderedDict
from typing import NamedTuple

MOST = 20_000
"""Ids that are remembered; the oldest are forgotten first."""
REACH = 4096
"""Bytes at an answer's beginning in which its id stands."""

_ID = re.compile(rb'"id"\s*+:\s*+"([A-Za-z0-9_-][A-Za-z0-9_.-]{0,199})"')


class Owner(NamedTuple):
    """A model by its name, its replica, and what the client called the model."""

    model: str
    target: str
    asked: str


class Owners:
    """By id. What was learnt is lost when the router ends; then `FollowUp` asks one after the other."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, Owner] = OrderedDict()

    def learn(self, piece: bytes, owner: Owner) -> None:
        """From the beginning of an answer, or of a stream's first event: the first id in there is its own."""
        match = _ID.search(piece, 0, REACH)
        if match is not None:
            self._by_id[match[1].decode()] = owner
            if len(self._by_id) > MOST:
                self._by_id.popitem(last=False)

    def of(self, id: str) -> Owner | None:  # noqa: A002
        return self._by_id.get(id)

"""A request for what an engine has made before, by its id: `GET /v1/responses/{id}` and the like."""

from collections import deque
from urllib.parse import parse_qs

from router.catalog import Hop, Model, Target
from router.errors import NotFound, RouterError, Unavailable
from router.proxy.attempt import Attempt
from router.proxy.exchange import Exchange
from router.proxy.request import NOWHERE, Request, not_served
from router.proxy.tally import clock
from router.proxy.upstream import Head

UNKNOWN = frozenset((404, 405, 501))
"""Statuses with which a server says that it does not have an id, or that it keeps nothing at all."""


class FollowUp(Exchange):
    """Goes to the engine that gave the id. Where nobody remembers which that was, as the router has been started anew
    since, every engine that could have is asked, one after the other, until one knows it. `?model=` limits it to one
    model."""

    __slots__ = ("_left", "_owner")
    alone = True

    def begin(self) -> None:
        since = self.since = clock()
        turn = self.turn
        try:
            self._request = self.asking = Request(self.route, turn.head, turn.body, "", NOWHERE)
            self._owner = self._owners.of(self.route.id)
            self._left = deque(self._candidates())
            if not self._left:
                raise self._unknown()
            self._ask_next()
        except RouterError as error:
            self.give_up(error)
        except Exception:
            self.mistake()
        self.paused_since(since)

    def judge(self, attempt: Attempt, head: Head) -> bool:  # noqa: ARG002
        if head.status in UNKNOWN and self._left:
            self._drop()
            self._ask_next()
            return True
        return False

    def _candidates(self) -> list[tuple[Model, Target]]:
        owner = self._owner
        named = parse_qs(self.turn.head.query.decode("latin-1")).get("model", [""])[0]
        if owner is not None:
            models = [model for model in self._catalog if model.name == owner.model]
        elif named:
            models = [self._catalog.resolve(named)]
        else:
            models = [model for model in self._catalog if model.offers(self.path.public)]
        for model in models:
            if not model.serves(self.path.public):
                raise not_served(model, self.path, self._catalog.serving(self.path.public))
        return [
            (model, target)
            for model in models
            for target in model.targets
            if owner is None or target.id == owner.target
        ]

    def _ask_next(self) -> None:
        while self._left:
            model, target = self._left.popleft()
            if model.claim_this(target):
                self._name(Hop(model.name, model))
                self._hops = (self.hop,)
                self.asked_name = model.name if self._owner is None else self._owner.asked
                self.ask(target)
                return
        message = f"the engine that has '{self.route.id}' does not answer now; try again"
        self.give_up(Unavailable(message, retry_after=5))

    def _unknown(self) -> NotFound:
        message = f"nothing with the id '{self.route.id}' is known here; it may have ended with its engine"
        return NotFound(message, param="id")

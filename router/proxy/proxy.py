"""The data plane's door: who may ask, and what leads to an engine."""

import itertools
import os

from router.catalog import Catalog
from router.errors import RouterError
from router.measures import Measures
from router.proxy.exchange import Exchange
from router.proxy.headers import Fields
from router.proxy.keys import Keys
from router.proxy.paths import OPEN, PATHS
from router.proxy.request import check_head
from router.proxy.turn import Turn, Work

MAX_ID = 128
"""Characters of a client's own `x-request-id`; a longer one is not taken."""


class Proxy:
    """Opens an exchange for each request whose path is in the table. What it leaves has been asked for its key too."""

    def __init__(self, catalog: Catalog, keys: Keys, measures: Measures) -> None:
        self.catalog, self.keys, self.measures = catalog, keys, measures
        self._prefix = os.urandom(6).hex()
        self._numbers = itertools.count(1)

    def open(self, turn: Turn) -> Work | None:
        """The head of a request is here. None: its path leads to no engine. Raises RouterError."""
        path = PATHS.get(turn.path)
        if path is None:
            if turn.path not in OPEN:
                self.keys.check(turn.fields)
            return None
        exchange = Exchange(turn, path, self._id(turn.fields), self.catalog, self.measures)
        try:
            exchange.holder = self.keys.check(turn.fields)
            check_head(path, turn.method, turn.fields)
        except RouterError as error:
            exchange.fail(error)
        return exchange

    def _id(self, fields: Fields) -> str:
        """The client's own, that it can look for it, else one that no other request has."""
        if (own := fields.get(b"x-request-id")) and len(own) <= MAX_ID:
            return own.decode("latin-1")
        return f"{self._prefix}{next(self._numbers):08x}"

"""The data plane's door: who may ask, and what leads to an engine."""

import itertools
import os

from router.catalog import Catalog
from router.errors import RouterError
from router.measures import Measures
from router.proxy.exchange import Exchange
from router.proxy.follow_up import FollowUp
from router.proxy.headers import for_engine
from router.proxy.keys import Keys
from router.proxy.named import own_id
from router.proxy.owners import Owners
from router.proxy.paths import OPEN, Path, find
from router.proxy.request import check_head, is_form
from router.proxy.tunnel import Tunnel
from router.proxy.turn import Head, Turn, Work
from router.proxy.upload import Upload


class Proxy:
    """Opens an exchange for each request whose path is in the table. What it leaves has been asked for its key too."""

    def __init__(self, catalog: Catalog, keys: Keys, measures: Measures) -> None:
        self.catalog, self.keys, self.measures = catalog, keys, measures
        self._owners = Owners()
        self._prefix = os.urandom(6).hex().encode()
        self._numbers = itertools.count(1)

    def open(self, turn: Turn) -> Work | None:
        """The head of a request is here. None: its path leads to no engine. Raises RouterError."""
        head = turn.head
        # The client's own, that it can look for it, else one that no other request has.
        turn.id = own_id(head.fields) or b"%b%08x" % (self._prefix, next(self._numbers))
        if head.admitted is self.keys:
            kind, route = head.opens
            exchange: Exchange = kind(turn, route, self.catalog, self._owners, self.measures)
            exchange.holder = head.holder
            return exchange
        route = find(head.path)
        if route is None:
            if head.path not in OPEN:
                self._ask_key(head)
            return None
        kind = _kind(route.path, head)
        head.opens = (kind, route)
        exchange = kind(turn, route, self.catalog, self._owners, self.measures)
        try:
            self._admit(route.path, head)
        except RouterError as error:
            exchange.holder = head.holder
            exchange.fail(error)
        exchange.holder = head.holder
        return exchange

    def _ask_key(self, head: Head) -> None:
        """Raises RouterError."""
        head.holder = ""
        head.holder = self.keys.check(head.fields)
        head.admin = self.keys.is_admin(head.holder)

    def _admit(self, path: Path, head: Head) -> None:
        """Raises RouterError. A head that comes again is admitted still, as long as the keys are the same."""
        self._ask_key(head)
        check_head(path, head.method, head.fields)
        head.lines = for_engine(head.headers, head.fields)
        head.admitted = self.keys


def _kind(path: Path, head: Head) -> type[Exchange]:
    """How a request by this path goes on."""
    match path.body:
        case "json":
            return Exchange
        case "none":
            return FollowUp
        case "websocket":
            return Tunnel
    return Upload if is_form(path, head.fields) else Exchange

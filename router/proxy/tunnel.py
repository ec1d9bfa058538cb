"""A WebSocket to an engine: its handshake goes on like any request; then the bytes of either side, as they come."""

import asyncio
from collections.abc import Sequence
from urllib.parse import quote, unquote_plus

from router.catalog import Catalog
from router.errors import InvalidRequest, RouterError, UpstreamTimeout
from router.measures import Measures
from router.proxy.attempt import Attempt
from router.proxy.exchange import Exchange
from router.proxy.headers import for_engine
from router.proxy.keys import IN_PROTOCOL
from router.proxy.named import id_line
from router.proxy.owners import Owners
from router.proxy.paths import Route
from router.proxy.relay import shape_of
from router.proxy.request import NOWHERE, Request
from router.proxy.tally import clock
from router.proxy.turn import Head, Turn
from router.proxy.upstream import Connection
from router.proxy.way import Way

MAX_EARLY = 65536
"""Bytes a client may send before its wish is granted; then it is not read."""
GOING_AWAY = b"\x88\x02\x03\xe9"
"""The last frame of a WebSocket whose server ends (1001)."""

_UPGRADE = b"connection: Upgrade\r\nupgrade: websocket\r\n"
_PROTOCOL = b"sec-websocket-protocol"


class Handshake(Request, frozen=True):
    """The wish for a WebSocket, with `model` in its query."""

    def edited(self, _edits: object) -> "Handshake":
        return self  # what a model's names change are members of JSON

    def pieces(self, way: Way, name: str) -> Sequence[bytes]:
        head = self.head
        query = head.query if name == self.model else _renamed(head.query, name)
        target = b"%b?%b" % (way.path, query) if query else way.path
        kept = for_engine([header for header in head.headers if header[0] != _PROTOCOL], head.fields)
        return (b"GET %b%b%b%b%b\r\n" % (target, way.lines, kept, _offered(head), _UPGRADE),)


class Tunnel(Exchange):
    """From the head of its request on. Once the engine has granted it, `_engine` is the transport to there, and until
    then `_early` what the client has sent. It has no limit of time, but in `_quiet`, as the client sends no more, and
    in `_stuck`, as the engine takes no more."""

    __slots__ = ("_early", "_engine", "_quiet", "_stuck")

    def __init__(self, turn: Turn, route: Route, catalog: Catalog, owners: Owners, measures: Measures) -> None:
        super().__init__(turn, route, catalog, owners, measures)
        self._early = b""
        self._engine: asyncio.Transport | None = None
        self._quiet: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    # What the client's connection calls

    def begin(self) -> None:
        since = self.since = clock()
        turn = self.turn
        turn.go_raw(self)
        try:
            _check(turn, self.route)
            name = _model_in(turn.head.query) or self._only_model()
            self._set_out(Handshake(self.route, turn.head, b"", name, NOWHERE))
        except RouterError as error:
            self.give_up(error)
        except Exception:
            self.mistake()
        self.paused_since(since)

    def _only_model(self) -> str:
        """vLLM's clients name it in a message, which is too late. Raises InvalidRequest."""
        path = self.path.public
        names = [model.name for model in self._catalog if model.paths is not None and path in model.paths]
        if len(names) != 1:
            problem = f"`model` is missing; name the model to ask: {path}?model=NAME"
            raise InvalidRequest(problem, code="missing_model", param="model")
        return names[0]

    def feed(self, data: bytes) -> None:
        self.turn.size += len(data)
        if self._engine is not None:
            self._engine.write(data)
            return
        self._early += data
        if len(self._early) > MAX_EARLY:
            self.turn.pause_body()

    def eof(self) -> bool:
        engine = self._engine
        if engine is None:
            return False
        if engine.can_write_eof():
            engine.write_eof()
            self._listen()
            return True
        engine.close()  # TLS has no half of an end; what was written goes out before
        return False

    def pause(self) -> None:
        if self._engine is None:
            super().pause()
        elif not self._engine.is_closing():
            self._engine.pause_reading()

    def resume(self) -> None:
        if self._engine is None:
            super().resume()
        elif not self._engine.is_closing():
            self._engine.resume_reading()

    def give_up(self, error: RouterError) -> None:
        if self._engine is None:
            super().give_up(error)
            return
        self.turn.write(GOING_AWAY)
        self.close(error.code)

    # What the engine's connection calls

    def send(self, connection: Connection, attempt: Attempt, pieces: Sequence[bytes | memoryview]) -> None:
        connection.ask(attempt, pieces, switch=self)

    def switched(self, connection: Connection, rest: bytes) -> None:
        since = self.since = clock()
        attempt = self._attempt
        assert attempt is not None  # noqa: S101 - it is its connection that calls
        head = connection.head
        try:
            self.judge(attempt, head)
            self.begun = True
            self.status = head.status
            engine = self._engine = connection.surrender(EngineSide(self))
            kept = shape_of(head).lines
            self.turn.switch(b"%b%b%b%b" % (_UPGRADE, kept, id_line(self.turn.id), attempt.pool.signature))
            self.turn.resume_body()  # before anything is written, as that may say to pause
            if self._early:
                engine.write(self._early)
                self._early = b""
            if rest:
                self.said(rest)
        except Exception:
            self.mistake()
        self.paused_since(since)

    def said(self, data: bytes) -> None:
        """By the engine."""
        attempt = self._attempt
        if attempt is None:
            return
        now = attempt.target.heard = clock()
        self.piece(now, streams=False)
        self.turn.write(data)
        if self._quiet is not None:
            self._listen()

    def full(self) -> None:
        """The engine takes no more for now. As the client is not read then, nobody would see that it leaves."""
        self.turn.pause_body()
        timeout = self.hop.model.limits.stall_timeout
        error = UpstreamTimeout(f"the engine has taken nothing for {timeout:g} s")
        self._stuck = asyncio.get_running_loop().call_later(timeout, self.give_up, error)

    def drained(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        self.turn.resume_body()

    # Ends

    def close(self, error: str = "") -> None:
        """What was written to the client goes out before its connection ends. `error` is what is recorded."""
        if self._engine is not None:
            self.since = clock()
            self._let_go()
            self.turn.over()
            self._end(error)

    def _listen(self) -> None:
        """For a while, to what the engine still says to a client that has ended."""
        if self._quiet is not None:
            self._quiet.cancel()
        timeout = self.hop.model.limits.stall_timeout
        self._quiet = asyncio.get_running_loop().call_later(timeout, self.close, "client_gone")

    def _let_go(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None and not engine.is_closing():
            engine.abort()
        for timer in filter(None, (self._quiet, self._stuck)):
            timer.cancel()
        self._quiet = self._stuck = None
        super()._let_go()


class EngineSide(asyncio.Protocol):
    """The engine's connection, once it has granted the wish."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def data_received(self, data: bytes) -> None:
        self._tunnel.said(data)

    def pause_writing(self) -> None:
        self._tunnel.full()

    def resume_writing(self) -> None:
        self._tunnel.drained()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Also where the engine has only sent its end, as asyncio closes then."""
        self._tunnel.close()


def _check(turn: Turn, route: Route) -> None:
    """Raises InvalidRequest where it is no handshake."""
    head = turn.head
    formed = head.method == "GET" and head.version == "1.1" and b"sec-websocket-key" in head.fields
    if not formed or "websocket" not in map(str.strip, head.upgrade.split(",")) or turn.size:
        problem = f"{route.path.public} is a WebSocket: GET it by HTTP/1.1, with `Upgrade: websocket`, and no body"
        raise InvalidRequest(problem, code="invalid_http")


def _model_in(query: bytes) -> str:
    """ "" where it names none. Raises InvalidRequest where it names two."""
    names = {unquote_plus(value) for name, value in _pairs(query) if name == "model"}
    if len(names) > 1:
        raise InvalidRequest("the query has more than one `model`", code="duplicate_model", param="model")
    return next(iter(names), "")


def _pairs(query: bytes) -> list[tuple[str, str]]:
    """Their names decoded, their values as they are."""
    pairs = (pair.partition("=") for pair in query.decode("latin-1").split("&"))
    return [(unquote_plus(name), value) for name, _, value in pairs]


def _renamed(query: bytes, name: str) -> bytes:
    """No other pair is touched."""
    pairs = zip(query.split(b"&"), _pairs(query), strict=True)
    return b"&".join(b"model=" + quote(name, safe="").encode() if key == "model" else pair for pair, (key, _) in pairs)


def _offered(head: Head) -> bytes:
    """The subprotocols, but for the one that is the client's key."""
    offers = (offer.strip() for key, value in head.headers if key == _PROTOCOL for offer in value.split(b","))
    kept = [offer for offer in offers if offer and not offer.startswith(IN_PROTOCOL)]
    return b"%b: %b\r\n" % (_PROTOCOL, b", ".join(kept)) if kept else b""

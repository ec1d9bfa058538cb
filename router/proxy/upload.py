"""A multipart form, sent on while it still comes: files may be large, and where `model` comes first, as from most
clients, the engine has the last byte when the client has sent it."""

from collections.abc import Sequence

from router.catalog import Catalog
from router.errors import RouterError
from router.measures import Measures
from router.proxy.attempt import Attempt
from router.proxy.exchange import Exchange
from router.proxy.multipart import Form
from router.proxy.owners import Owners
from router.proxy.paths import Route
from router.proxy.request import NOWHERE, Request
from router.proxy.tally import clock
from router.proxy.turn import Turn, put
from router.proxy.upstream import Connection
from router.proxy.way import Way

KEEP = 1 << 20
"""Bytes of a form that are kept, to be sent again should the engine fail. Of a longer one no more is read until there
is an engine to take it; but as much as has to be, to find its `model`."""


class Beginning(Request, frozen=True, kw_only=True):
    """A form, as far as it has come."""

    upload: "Upload"

    def edited(self, _edits: object) -> "Beginning":
        return self  # what a model's names change are members of JSON

    def pieces(self, way: Way, name: str) -> Sequence[bytes | memoryview]:
        return self.upload.opening(self.line(way), name)


class Upload(Exchange):
    """From the head of its request on. `_kept` is what has come, of `_size` bytes, as long as it is `replayable`;
    `_connection` takes what else comes. With `_whole` nothing does."""

    __slots__ = ("_connection", "_form", "_kept", "_length", "_size", "_whole", "replayable")

    def __init__(self, turn: Turn, route: Route, catalog: Catalog, owners: Owners, measures: Measures) -> None:
        super().__init__(turn, route, catalog, owners, measures)
        turn.eater = self
        self.replayable = True
        self._form: Form | None = None
        self._kept: list[bytes | bytearray] = []
        self._size = 0
        self._connection: Connection | None = None
        self._whole = False
        length = turn.head.fields.get(b"content-length")
        self._length = None if length is None else int(length)

    # What the client's connection calls

    def fed(self) -> None:
        if self.turn.size != self._length:  # the last piece goes on when the whole has been found to be a form
            self._eat()

    def begin(self) -> None:
        self._whole = True
        self._eat()

    def _eat(self) -> None:
        since = self.since = clock()
        try:
            self._read(self.turn.take())
        except RouterError as error:
            self.give_up(error)
        except Exception:
            self.mistake()
        self.paused_since(since)

    def _read(self, data: bytes) -> None:
        """Raises InvalidRequest."""
        if self._form is None:
            self._form = Form(self.turn.head.fields.get(b"content-type", b"").decode("latin-1"))
        self._form.feed(data)
        if self._whole:
            self._form.end()
            self.turn.resume_body()
        connection = self._connection
        if connection is None or connection.closed:
            self._keep(data)
        else:
            self._pass_on_to(connection, data)

    def _keep(self, data: bytes) -> None:
        """Raises RouterError."""
        put(self._kept, data)
        self._size += len(data)
        form = self._form
        assert form is not None  # noqa: S101 - `_read` has made it
        if not self.asked_name and (form.model is not None or self._whole):
            kept = b"".join(self._kept)
            self._kept = [kept]
            name = self.route.model or form.name_in(kept)
            self._set_out(Beginning(self.route, self.turn.head, b"", name, NOWHERE, form=True, upload=self))
        elif self.asked_name and self._size > KEEP and not self._whole:
            self.turn.pause_body()

    def _pass_on_to(self, connection: Connection, data: bytes) -> None:
        if self._size + len(data) > KEEP:
            self.replayable = False
            self._kept.clear()
        if self.replayable:
            put(self._kept, data)
        self._size += len(data)
        chunked = self._length is None
        if data:
            connection.more((b"%x\r\n" % len(data), data, b"\r\n") if chunked else (data,))
        if self._whole:
            if chunked:
                connection.more((b"0\r\n\r\n",))
            connection.end()

    # What the engine's connection calls

    def opening(self, line: bytes, name: str) -> Sequence[bytes | memoryview]:
        """The head, which begins with `line`, and all that has come of the form, with the engine's `name` in it."""
        form = self._form
        assert form is not None  # noqa: S101 - its name has been read
        kept = b"".join(self._kept)
        self._kept = [kept]
        (start, end), told = form.replacing(name)
        grown = len(told) - (end - start)
        view = memoryview(kept)
        pieces = (view[:start], told, view[end:])
        if self._whole:
            return (b"%bcontent-length: %d\r\n\r\n" % (line, len(kept) + grown), *pieces)
        if self._length is not None:
            return (b"%bcontent-length: %d\r\n\r\n" % (line, self._length + grown), *pieces)
        return (b"%btransfer-encoding: chunked\r\n\r\n%x\r\n" % (line, len(kept) + grown), *pieces, b"\r\n")

    def send(self, connection: Connection, attempt: Attempt, pieces: Sequence[bytes | memoryview]) -> None:
        if self._whole:
            super().send(connection, attempt, pieces)
            return
        self._connection = connection
        self.turn.resume_body()
        connection.ask(attempt, pieces, feeder=self)

    def full(self) -> None:
        self.turn.pause_body()

    def drained(self) -> None:
        self.turn.resume_body()

    def _end(self, error: str) -> None:
        self._kept.clear()
        super()._end(error)

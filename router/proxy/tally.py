"""What is measured of one request, and the record that becomes of it."""

import time
from datetime import UTC, datetime

from router.measures import Measures, Record, Sums, ms
from router.proxy.paths import Path
from router.proxy.turn import Turn
from router.proxy.usage import tokens

CLIENT_GONE = 499
"""The status that is recorded where the client did not wait for one; nginx's."""
GAPS = 64
"""Times between pieces of a stream that are counted at once."""

clock = time.perf_counter


class Tally:
    """Times by `clock`, 0.0 where there is none: `began`, `first` and `last` byte of the answer's body, `ended`. Sums
    of seconds: `own`, of which what has passed since `since` is to come; `queued`, `started`. `usage` holds the pieces
    of the answer that tell its tokens. `tries`: replicas that failed."""

    __slots__ = (
        "asked", "began", "ended", "error", "first", "gaps", "holder", "last", "measures", "named", "own", "path",
        "queued", "served_by", "since", "started", "status", "streamed", "sums", "tries", "turn", "usage",
    )  # fmt: skip

    def __init__(self, turn: Turn, path: Path, measures: Measures) -> None:
        self.turn, self.path, self.measures = turn, path, measures
        self.began = self.since = clock()
        self.first = self.last = self.own = self.queued = self.ended = self.started = 0.0
        self.gaps: list[float] = []
        self.sums: Sums | None = None
        self.asked = self.named = self.served_by = self.error = self.holder = ""
        self.usage = b""
        self.status = CLIENT_GONE
        self.streamed = False
        self.tries = 0

    def piece(self, now: float, *, streams: bool) -> None:
        """A piece of the answer's body has come."""
        if not self.first:
            self.first = now
        elif streams:
            self.gaps.append(now - self.last)
            if len(self.gaps) >= GAPS:
                self._count_gaps()
        self.last = now

    def end(self, error: str) -> None:
        """The request has ended: it is recorded when there is time."""
        self.error = error
        if self.gaps:
            self._count_gaps()
        self.ended = clock()
        self.own += self.ended - self.since
        self.turn.body = b""
        self.turn.parts.clear()
        self.measures.add(self)

    def _count_gaps(self) -> None:
        if self.gaps and self.sums is not None:
            self.sums.gap.observe_all(self.gaps)
            self.gaps.clear()

    def record(self, epoch: float) -> tuple[Record, Sums]:
        turn = self.turn
        prompt, completion = tokens(self.usage) if self.usage else (None, None)
        record = Record(
            time=datetime.fromtimestamp(self.began + epoch, UTC),
            id=turn.id.decode("ascii"),
            client=turn.peer,
            key=self.holder,
            method=turn.head.method,
            path=self.path.public,
            asked=self.asked if self.asked != self.named else "",
            model=self.named,
            target=self.served_by,
            status=self.status,
            stream=self.streamed,
            error=self.error,
            retries=self.tries,
            request_bytes=turn.size,
            response_bytes=turn.sent,
            prompt_tokens=prompt,
            completion_tokens=completion,
            start_ms=ms(self.started) if self.started else None,
            queue_ms=ms(self.queued),
            first_ms=ms(self.first - self.began) if self.first else None,
            total_ms=ms(self.ended - self.began),
            own_ms=ms(self.own),
        )
        return record, self.sums or self.measures.of("", self.path.public)

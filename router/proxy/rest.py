"""A request that an ASGI application answers: uvicorn's own cycle, begun when the whole request is here."""

import asyncio
import logging

import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from router.errors import RouterError
from router.proxy.turn import Turn

log = logging.getLogger("uvicorn.error")


class Rest:
    """One such request."""

    def __init__(self, turn: Turn, transport: asyncio.Transport, config: uvicorn.Config, state: ServerState) -> None:
        self._turn, self._transport, self._config, self._state = turn, transport, config, state
        self._flow = FlowControl(transport)
        self._cycle: RequestResponseCycle | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        turn = self._turn
        turn.started = True
        cycle = self._cycle = RequestResponseCycle(
            scope={
                "type": "http",
                "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
                "http_version": turn.head.version,
                "server": None,
                "client": (turn.peer, 0),
                "scheme": "http",
                "method": turn.head.method,
                "root_path": "",
                "path": turn.head.path,
                "raw_path": turn.head.url.partition(b"?")[0],
                "query_string": turn.head.query,
                "headers": list(turn.head.headers),
                "state": {"admin": turn.head.admin, "holder": turn.head.holder},
            },
            transport=self._transport,
            flow=self._flow,
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=[(b"x-request-id", turn.id)] if turn.id else [],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=turn.keep_alive,
            on_response=turn.over,
        )
        cycle.body += turn.body
        cycle.more_body = False
        cycle.message_event.set()
        task = self._task = asyncio.ensure_future(cycle.run_asgi(self._config.loaded_app))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def pause(self) -> None:
        self._flow.pause_writing()

    def resume(self) -> None:
        self._flow.resume_writing()

    def leave(self) -> None:
        if self._cycle is not None:
            self._cycle.disconnected = True
            self._cycle.message_event.set()
            self._flow.resume_writing()

    def fail(self, error: RouterError) -> None:
        if not self._turn.started:
            self._turn.refuse(error)
            return
        if self._task is not None:
            self._task.cancel()
        self._turn.tear()

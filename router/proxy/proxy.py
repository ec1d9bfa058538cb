"""One request, top to bottom: key, path, body, model, claim, ask, relay, release."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from router.catalog import Catalog, Model, Target
from router.errors import NotSupported, RouterError, Unavailable, UpstreamError, UpstreamTimeout
from router.proxy.asgi import App, Receive, Scope, Send
from router.proxy.keys import Keys
from router.proxy.paths import OPEN, PATHS, Path
from router.proxy.relay import Answer, relay
from router.proxy.request import ClientGone, Limits, Request, read_request
from router.proxy.upstream import ConnectFailed, Connection, Died, Pool

LAST_WORDS = 1.0
"""Seconds a client has to take the end of its answer when the router stops."""

log = logging.getLogger("router.proxy")


class Proxy:
    """The data plane as an ASGI application. Paths that are not its own go to `rest`, after the same check of keys."""

    def __init__(self, catalog: Catalog, keys: Keys, limits: Limits, rest: App) -> None:
        self.catalog, self.keys, self.limits, self.rest = catalog, keys, limits, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(send)
        try:
            if scope["path"] not in OPEN:
                self.keys.check(scope["headers"])
            if (path := PATHS.get(scope["path"])) is not None:
                return await self._answer(path, scope, receive, answer)
        except RouterError as error:
            return await answer.fail(error)
        except ClientGone:
            return None
        except asyncio.CancelledError:  # the server's time to drain is over
            return await _last_words(answer)
        except Exception:
            log.exception("a request to %s failed", scope["path"])
            return await answer.fail(RouterError("the router has made a mistake; its log says more"))
        return await self.rest(scope, receive, send)

    async def _answer(self, path: Path, scope: Scope, receive: Receive, answer: Answer) -> None:
        request = await read_request(path, scope, receive, self.limits)
        model = self.catalog.resolve(request.model)
        _check_served(model, request)
        await _while_connected(receive, _forward(model, request, answer))


async def _last_words(answer: Answer) -> None:
    with suppress(TimeoutError, asyncio.CancelledError):  # nobody waits any longer
        async with asyncio.timeout(LAST_WORDS):
            await answer.fail(Unavailable("the router is shutting down", code="shutting_down", retry_after=5))


def _check_served(model: Model, request: Request) -> None:
    if model.paths is not None and request.path.public not in model.paths:
        offer = ", ".join(sorted(model.paths))
        problem = f"model '{model.name}' ({model.kind}, {model.engine}) does not serve {request.path.public}"
        raise NotSupported(f"{problem}; it serves {offer}")


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Does `work`, and cancels it in whatever phase it is when the client leaves, so that the engine stops as well."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    watch = asyncio.ensure_future(_disconnect(receive))

    def leave(watch: asyncio.Future[None]) -> None:
        if not watch.cancelled():
            task.cancel()

    watch.add_done_callback(leave)
    try:
        await work
    except asyncio.CancelledError:
        if not watch.done() or watch.cancelled():
            raise
        task.uncancel()
        raise ClientGone from None
    finally:
        watch.remove_done_callback(leave)  # it may be about to run, and the work is done
        watch.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _forward(model: Model, request: Request, answer: Answer) -> None:
    """Claims a replica and relays its answer. As long as the client has been sent nothing, one that fails gives way to
    another; not one that is only slow, as the other would have to begin anew."""
    target = await model.claim()
    failed: list[Target] = []
    while True:
        try:
            return await _exchange(model, target, request, answer)
        except (ConnectFailed, Died) as error:
            failed.append(target)
            over = answer.started or (isinstance(error, Died) and error.timed_out)
            if over or not model.has_other(failed):
                raise _upstream_error(model, error) from None
        finally:
            model.release(target)
        target = await model.claim(failed)


async def _exchange(model: Model, target: Target, request: Request, answer: Answer) -> None:
    """Raises ConnectFailed, Died."""
    if target.pool is None:
        target.pool = _open_pool(model, target)
    pool: Pool = target.pool  # type: ignore[assignment]  # nobody else sets it
    body = request.body_for(target)
    connection = await _ask(pool, request.head_for(target, len(body)), body)
    try:
        await relay(connection, answer, None if target.served == request.model else request.model)
    finally:
        pool.give_back(connection)


async def _ask(pool: Pool, head: bytes, body: bytes) -> Connection:
    """A connection whose answer has begun. A kept one that dies in silence was closed by the engine for its age: then,
    and only then, the same engine is asked again."""
    connection = pool.take()
    if connection is not None:
        try:
            return await _ask_on(connection, head, body)
        except Died as error:
            if not error.silent or error.timed_out:
                raise
    return await _ask_on(await pool.open(), head, body)


async def _ask_on(connection: Connection, head: bytes, body: bytes) -> Connection:
    try:
        await connection.ask(head, body)
    except BaseException:
        connection.pool.give_back(connection)
        raise
    return connection


def _open_pool(model: Model, target: Target) -> Pool:
    limits = model.limits
    return Pool(
        target.address,
        idle=target.idle,
        reuse=target.reuse,
        connect_timeout=limits.connect_timeout,
        response_timeout=limits.response_timeout,
        stall_timeout=limits.stall_timeout,
    )


def _upstream_error(model: Model, error: ConnectFailed | Died) -> UpstreamError:
    if isinstance(error, Died) and error.timed_out:
        return UpstreamTimeout(f"the engine of model '{model.name}' did not answer in time: {error}")
    return UpstreamError(f"the engine of model '{model.name}' failed: {error}; try again", retry_after=1)

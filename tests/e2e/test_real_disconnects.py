"""A client that leaves stops the engine's work within a second, in whatever phase. The engine's own figures say so.

llama.cpp notices at once that nobody reads its stream. While it has nothing to send it looks for the client only when
no answer to anybody, its figures included, was ready for one second (`HTTP_POLLING_SECONDS` of its server). So there
the tests leave the engine alone until it has had that second, and until then watch the processor time that it takes.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest
from raw_http import Request
from real_router import Engine, RealRouter, wait_until

WITHIN = 1.0
"""Seconds for the engine to stop."""
SILENCE = 1.2
"""Seconds after which llama.cpp has looked for its clients: its second, and a fifth for a busy machine."""
PICKED_UP = 20.0
"""Seconds for the engine to begin, or to end what it has."""
VLLM, LLAMACPP = "vllm-chat", "llamacpp-slow"
TOKENS = {VLLM: 12000, LLAMACPP: 2000}

models = pytest.mark.parametrize("model", [LLAMACPP, VLLM])


def running(engine: Engine) -> float:
    if engine.model == VLLM:
        return engine.figure("vllm:num_requests_running")
    return float(sum(slot["is_processing"] for slot in engine.get("/slots")))


def waiting(engine: Engine) -> float:
    return engine.figure("vllm:num_requests_waiting" if engine.model == VLLM else "llamacpp:requests_deferred")


@contextmanager
def asked(router: RealRouter, model: str, *, stream: bool) -> Iterator[Request]:
    """A request for a very long answer."""
    messages = [{"role": "user", "content": "Go on for ever."}]
    body: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": TOKENS[model], "ignore_eos": True}
    with Request(router.port, "/v1/chat/completions", body | {"stream": stream}) as request:
        yield request


def works(engine: Engine) -> Callable[[], bool]:
    """Whether it took more than a quarter of a processor in a twentieth of a second; nothing is asked of it."""
    process = psutil.Process(engine.pid)

    def look() -> bool:
        before = process.cpu_times()
        start = time.monotonic()
        time.sleep(0.05)
        after = process.cpu_times()
        used = after.user + after.system - before.user - before.system
        return used > 0.25 * (time.monotonic() - start)

    return look


@pytest.fixture
def engine(router: RealRouter, model: str) -> Iterator[Engine]:
    """Before and after each test it does nothing."""
    engine = router.engine(model)
    wait_until("it is idle before", lambda: running(engine) == 0, PICKED_UP)
    yield engine
    wait_until("it is idle after", lambda: running(engine) == 0, PICKED_UP, every=SILENCE)


@pytest.mark.parametrize("model", [VLLM])
def test_leaving_before_the_engine_has_begun_takes_the_request_out_of_its_queue(
    router: RealRouter, model: str, engine: Engine
) -> None:
    with ExitStack() as others:
        for _ in range(2):
            others.enter_context(asked(router, model, stream=True))
        wait_until("both places are taken", lambda: running(engine) == 2, PICKED_UP)
        with asked(router, model, stream=True) as queued:
            wait_until("the third waits", lambda: waiting(engine) == 1, PICKED_UP)
            queued.leave()
            wait_until("it waits no more", lambda: waiting(engine) == 0, WITHIN)
            assert running(engine) == 2, "the others go on"


@pytest.mark.parametrize("model", [LLAMACPP])
def test_leaving_before_llamacpp_has_a_free_slot_keeps_the_request_from_it_for_good(
    router: RealRouter, model: str, engine: Engine
) -> None:
    with ExitStack() as others:
        for _ in range(2):
            others.enter_context(asked(router, model, stream=True))
        wait_until("both slots are taken", lambda: running(engine) == 2, PICKED_UP)
        with asked(router, model, stream=True) as queued:
            time.sleep(0.2)  # not to wait for anything: it is to have every chance to reach the engine
            assert waiting(engine) == 0, "it waits in the router"
            queued.leave()
    wait_until("the others are gone", lambda: running(engine) == 0, WITHIN)
    for _ in range(10):
        assert running(engine) == 0, "had it still been in the queue, it would run now"
        time.sleep(0.03)


@models
def test_leaving_during_a_generation_that_is_not_streamed_stops_it(
    router: RealRouter, model: str, engine: Engine
) -> None:
    busy = works(engine) if model == LLAMACPP else lambda: running(engine) > 0
    with asked(router, model, stream=False) as request:
        for _ in range(6):
            wait_until("it works", busy, PICKED_UP)
        request.leave()
        took = wait_until("it stops", lambda: not busy(), WITHIN)
        assert running(engine) == 0
    print(f"{model}: stopped {took:.2f} s after the client left")  # noqa: T201


@models
def test_leaving_in_the_middle_of_a_stream_stops_it(router: RealRouter, model: str, engine: Engine) -> None:
    with asked(router, model, stream=True) as request:
        reads = request.reads()
        for _ in range(5):
            next(reads)
        assert running(engine) == 1
        request.leave()
        took = wait_until("it stops", lambda: running(engine) == 0, WITHIN)
    print(f"{model}: stopped {took:.2f} s after the client left")  # noqa: T201


@models
def test_leaving_in_the_middle_of_a_stream_leaves_the_others_alone(
    router: RealRouter, model: str, engine: Engine
) -> None:
    with asked(router, model, stream=True) as stays, asked(router, model, stream=True) as leaves:
        going_on = stays.reads()
        next(going_on)
        next(leaves.reads())
        assert running(engine) == 2
        leaves.leave()
        wait_until("one is left", lambda: running(engine) == 1, WITHIN)
        for _ in range(20):
            next(going_on)

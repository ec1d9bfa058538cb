"""An engine that fails request after request: who is still sent to it, and what clients notice."""

import asyncio
import os
import resource
from dataclasses import replace

import pytest
from lab import END, OK, SSE, Engine, Lab, Limits, Script, Wire, answer, chunk, post, until

from router.catalog import Model, circuit

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'
OVERLOADED = answer(b'{"error":"queue full"}', status=b"503 Busy")


def failing(status: bytes, extra: bytes = b"") -> bytes:
    return answer(b'{"error":"no"}', status=status, extra=extra)


async def dying(wire: Wire) -> None:
    await wire.request()


async def ask(wire: Wire) -> int:
    await wire.send(post(BODY))
    return (await wire.response()).status


def blown(lab: Lab, index: int = 0, retry_after: float = 0.0) -> None:
    """Its circuit is open."""
    for _ in range(5):
        lab.model.failed(lab.targets[index], retry_after)
    assert lab.targets[index].circuit == "open"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested is what comes after the wait."""
    monkeypatch.setattr(circuit, "FIRST", 0.02)


async def test_one_that_dies_each_time_gets_five_requests_and_no_client_notices(lab: Lab) -> None:
    bad, good = await lab.engine(dying), await lab.answering(OK)
    wire = await lab.client()
    assert {await ask(wire) for _ in range(60)} == {200}
    assert (len(bad.wires), len(good.requests)) == (5, 60)
    assert [target.circuit for target in lab.targets] == ["open", "closed"]
    assert lab.model.failures == 5


async def test_one_that_refuses_connections_is_left_out_too(lab: Lab) -> None:
    bad, _ = await lab.engine(dying), await lab.answering(OK)
    bad.refuse()
    wire = await lab.client()
    assert {await ask(wire) for _ in range(20)} == {200}
    assert (lab.targets[0].circuit, lab.model.failures) == ("open", 5)


async def test_one_that_does_not_begin_to_answer_in_time_is_left_out_too(lab: Lab) -> None:
    lab.limits.response_timeout = 0.05

    async def silent(wire: Wire) -> None:
        await wire.request()
        await wire.gone(5.0)

    await lab.engine(silent)
    replies = await asyncio.gather(*(lab.chat() for _ in range(5)))
    assert [reply.code for reply in replies] == ["engine_timeout"] * 5
    assert lab.targets[0].circuit == "open"


@pytest.mark.parametrize("status", [b"500 Oh", b"502 Bad", b"503 Busy", b"504 Slow"])
async def test_what_says_that_it_has_failed_is_believed(lab: Lab, status: bytes) -> None:
    engine = await lab.answering(failing(status))
    lab.targets[0].suspect = lambda _: None  # the fleet's: it can ask the engine itself
    assert [(await lab.chat()).status for _ in range(5)] == [int(status[:3])] * 5
    assert lab.targets[0].circuit == "open"
    lab.limits.queue_timeout = 0.05
    reply = await lab.chat()
    assert (reply.status, reply.code, reply[b"retry-after"]) == (503, "model_not_ready", b"1")
    assert reply.json()["detail"] == "model 'm' is not ready: its engine fails every request; it is tried again in 1 s"
    assert len(engine.requests) == 5


async def test_a_500_of_a_server_that_nobody_can_probe_may_be_the_requests_own(lab: Lab) -> None:
    """Else one client's bad requests took a remote model away from all others."""
    await lab.answering(failing(b"500 Oh"))
    assert {(await lab.chat()).status for _ in range(12)} == {500}
    assert lab.targets[0].circuit == "closed"


@pytest.mark.parametrize("status", [b"400 Bad", b"404 No", b"429 Slow", b"501 No", b"505 No", b"302 Go", b"529 Odd"])
async def test_what_may_be_the_clients_fault_is_not_held_against_the_engine(lab: Lab, status: bytes) -> None:
    engine = await lab.answering(failing(status))
    assert {(await lab.chat()).status for _ in range(12)} == {int(status[:3])}
    assert (len(engine.requests), lab.targets[0].breaker.doubted) == (12, False)


async def test_others_answers_forgive_a_client_whose_requests_all_fail(lab: Lab) -> None:
    """A request that is told whole, or a stream."""
    good, bad = OK, failing(b"500 Oh")
    await lab.answering(
        bad, bad, bad, good, bad, bad, bad, bad, SSE + chunk(b"data: 1\n\n") + END, bad, bad, bad, bad, good
    )
    wire = await lab.client()
    statuses = [await ask(wire) for _ in range(14)]
    assert statuses == [500] * 3 + [200] + [500] * 4 + [200] + [500] * 4 + [200]
    assert lab.targets[0].circuit == "closed"


@pytest.mark.parametrize("begun", [False, True])
async def test_clients_that_leave_are_no_failures(lab: Lab, begun: bool) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        if begun:
            await wire.send(SSE + chunk(b"data: 1\n\n"))
        await wire.gone(5.0)

    engine = await lab.engine(script)
    for count in range(1, 9):
        wire = await lab.send(post(BODY))
        await until(lambda: len(engine.wires) == count)  # noqa: B023 - it is asked here and now
        if begun:
            await wire.head()
        wire.reset()
        await engine.left(count - 1)
    await until(lambda: not lab.targets[0].in_flight)
    assert (lab.model.failures, lab.targets[0].circuit) == (0, "closed")


async def test_what_dies_as_its_engine_is_taken_away_is_no_failure(lab: Lab) -> None:
    go_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await go_on.wait()

    await lab.engine(script)
    wires = [await lab.send(post(BODY)) for _ in range(8)]
    await until(lambda: lab.targets[0].in_flight == 8)
    lab.model.remove(lab.targets[0])
    go_on.set()
    assert {(await wire.response()).status for wire in wires} == {502}
    assert (lab.model.failures, lab.targets[0].breaker.failures) == (0, 0)


async def test_a_kept_connection_that_the_engine_closed_is_no_failure(lab: Lab) -> None:
    async def once(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        await wire.request()

    await lab.engine(once)
    wire = await lab.client()
    assert {await ask(wire) for _ in range(20)} == {200}
    assert lab.model.failures == 0


async def test_what_this_machine_lacks_is_no_fault_of_the_engine(lab: Lab) -> None:
    await lab.answering(OK)
    wire = await lab.client()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while True:  # the numbers below it that are free
            try:
                fillers.append(os.dup(0))
            except OSError:
                break
        statuses = [await ask(wire) for _ in range(6)]
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (statuses, lab.model.failures) == ([502] * 6, 0)
    assert await ask(wire) == 200


# Another replica


async def test_one_that_is_overloaded_is_passed_over_for_another(lab: Lab) -> None:
    full, good = await lab.answering(OVERLOADED), await lab.answering(OK)
    wire = await lab.client()
    assert {await ask(wire) for _ in range(6)} == {200}
    assert len(full.requests) >= 3
    assert len(good.requests) == 6
    assert {record.retries for record in lab.records} == {0, 1}


async def test_where_all_are_overloaded_each_is_asked_once_and_the_last_ones_word_is_passed_on(lab: Lab) -> None:
    engines = [await lab.answering(OVERLOADED) for _ in range(4)]
    reply = await lab.chat()
    assert (reply.status, reply.body) == (503, b'{"error":"queue full"}')
    assert [len(engine.requests) for engine in engines] == [1] * 4


@pytest.mark.parametrize("rest", [b"", b'{"error":'])
async def test_one_is_passed_over_before_its_answer_is_whole(lab: Lab, rest: bytes) -> None:
    """And is told that nobody reads on."""
    closed = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 503 Busy\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n" + rest)
        await wire.gone(5.0)
        closed.set()

    await lab.engine(script)
    await lab.answering(OK)
    assert (await lab.chat()).status == 200
    await asyncio.wait_for(closed.wait(), 3)


@pytest.mark.parametrize("status", [b"500 Oh", b"502 Bad", b"504 Slow"])
async def test_a_request_that_may_be_the_cause_is_not_passed_around(lab: Lab, status: bytes) -> None:
    await lab.answering(failing(status))
    other = await lab.answering(OK)
    assert (await lab.chat()).status == int(status[:3])
    assert not other.wires


@pytest.mark.parametrize("way", ["dies", "500", "503"])
@pytest.mark.usefixtures("quick")
async def test_no_client_notices_a_trial_that_fails_while_another_lives(lab: Lab, way: str) -> None:
    bad = await (lab.engine(dying) if way == "dies" else lab.answering(failing(way.encode() + b" Oh")))
    await lab.answering(OK)
    lab.targets[0].suspect = lambda _: None
    blown(lab)
    wire = await lab.client()
    asked = lambda: len(bad.wires if way == "dies" else bad.requests)  # noqa: E731
    while asked() < 3:
        assert await ask(wire) == 200
    assert lab.targets[0].breaker.row >= 3


# A trial


def held(release: asyncio.Event) -> Script:
    async def script(wire: Wire) -> None:
        while await wire.request():
            await release.wait()
            await wire.send(OK)

    return script


@pytest.mark.usefixtures("quick")
async def test_of_fifty_that_wait_one_tries_it_and_all_are_answered_when_it_has(lab: Lab) -> None:
    lab.limits.queue_size = 100
    release = asyncio.Event()
    engine = await lab.engine(held(release))
    blown(lab)
    wires = [await lab.send(post(BODY)) for _ in range(50)]
    await until(lambda: engine.wires and lab.model.waiting == 49)
    for _ in range(200):
        await asyncio.sleep(0)
    assert (len(engine.wires), lab.targets[0].in_flight, lab.targets[0].circuit) == (1, 1, "half_open")
    release.set()
    assert {(await wire.response()).status for wire in wires} == {200}
    assert lab.targets[0].circuit == "closed"


@pytest.mark.usefixtures("quick")
async def test_where_the_trial_fails_the_next_one_has_to_wait(lab: Lab) -> None:
    release = asyncio.Event()
    engine = await lab.engine(dying, dying, dying, held(release))
    blown(lab)
    wires = [await lab.send(post(BODY)) for _ in range(10)]
    await until(lambda: len(engine.wires) == 4 and lab.model.waiting == 6)
    assert (lab.targets[0].breaker.openings, lab.targets[0].in_flight) == (4, 1)
    release.set()
    assert [(await wire.response()).status for wire in wires] == [502] * 3 + [200] * 7


@pytest.mark.usefixtures("quick")
async def test_a_trial_whose_client_leaves_is_the_next_ones(lab: Lab) -> None:
    release = asyncio.Event()
    engine = await lab.engine(held(release))
    blown(lab)
    first = await lab.send(post(BODY))
    await until(lambda: engine.wires)
    second = await lab.send(post(BODY))
    await until(lambda: lab.model.waiting == 1)
    first.reset()
    release.set()
    assert (await second.response()).status == 200
    assert (lab.targets[0].circuit, lab.targets[0].breaker.openings) == ("closed", 1)


@pytest.mark.usefixtures("quick")
async def test_a_trial_that_is_answered_with_the_clients_fault_has_shown_that_it_is_well(lab: Lab) -> None:
    await lab.answering(failing(b"400 Bad"))
    blown(lab)
    assert (await lab.chat()).status == 400
    assert lab.targets[0].circuit == "closed"


@pytest.mark.usefixtures("quick")
async def test_a_trial_that_shows_nothing_leaves_the_next_to_another(lab: Lab) -> None:
    await lab.answering(failing(b"501 No"), OK)
    blown(lab)
    wire = await lab.client()
    assert (await ask(wire), lab.targets[0].circuit) == (501, "half_open")
    assert (await ask(wire), lab.targets[0].circuit) == (200, "closed")


async def test_the_engines_own_time_is_kept_to(lab: Lab) -> None:
    lab.limits.queue_timeout = 2.0
    await lab.answering(failing(b"503 Busy", b"retry-after: 20\r\n"))
    for _ in range(5):
        assert (await lab.chat())[b"retry-after"] == b"20"
    reply = await lab.chat()
    assert (reply.status, reply.code, reply[b"retry-after"]) == (503, "model_not_ready", b"20")
    assert "it is tried again in 20 s" in reply.json()["detail"]


@pytest.mark.parametrize("value", [b"Fri, 20 Nov 2026 10:00:00 GMT", b"-5", b"1.5", b"x", b"\xb2", b""])
async def test_a_time_that_cannot_be_read_is_none(lab: Lab, value: bytes) -> None:
    await lab.answering(failing(b"503 Busy", b"retry-after: %b\r\n" % value))
    for _ in range(5):
        assert (await lab.chat()).status == 503
    assert lab.model.reason.endswith("in 1 s")


# The fleet's part


async def test_the_fleet_hears_of_it_at_once_and_can_end_it_before_the_next_request(lab: Lab) -> None:
    engine = await lab.answering(*[failing(b"500 Oh")] * 5, OK)
    lab.targets[0].suspect = lab.model.close_circuit
    wire = await lab.client()
    assert [await ask(wire) for _ in range(6)] == [500] * 5 + [200]
    assert len(engine.requests) == 6


async def test_a_replica_whose_probe_failed_gets_nothing_until_one_answers(lab: Lab) -> None:
    engine, other = await lab.answering(OK), await lab.answering(OK)
    lab.model.open_circuit(lab.targets[0])
    wire = await lab.client()
    assert {await ask(wire) for _ in range(10)} == {200}
    assert (len(engine.requests), len(other.requests)) == (0, 10)
    lab.model.close_circuit(lab.targets[0])
    assert {await ask(wire) for _ in range(2)} == {200}
    assert len(engine.requests) == 1


async def test_a_stream_goes_on_while_its_engine_gets_no_more_requests(lab: Lab) -> None:
    go_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE + chunk(b"data: 1\n\n"))
        await go_on.wait()
        await wire.send(chunk(b"data: 2\n\n") + END)

    await lab.engine(script)
    wire = await lab.send(post(BODY))
    assert (await wire.head()).status == 200
    assert await wire.chunk() == b"data: 1\n\n"
    lab.model.open_circuit(lab.targets[0])
    heard = lab.targets[0].heard
    go_on.set()
    assert [await wire.chunk(), await wire.chunk()] == [b"data: 2\n\n", b""]
    assert lab.targets[0].heard > heard > 0
    assert lab.targets[0].circuit == "open"


async def test_a_removed_one_ends_its_stream_and_then_says_that_it_is_idle(lab: Lab) -> None:
    go_on, idle = asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(SSE + chunk(b"data: 1\n\n"))
        await go_on.wait()
        await wire.send(chunk(b"data: 2\n\n") + END)

    await lab.engine(script)
    lab.targets[0].on_idle = idle.set
    wire = await lab.send(post(BODY))
    assert (await wire.head()).status == 200
    lab.model.remove(lab.targets[0])
    assert not idle.is_set()
    go_on.set()
    assert [await wire.chunk() for _ in range(3)] == [b"data: 1\n\n", b"data: 2\n\n", b""]
    await asyncio.wait_for(idle.wait(), 3)


# A file that is read again


async def test_new_limits_hold_for_the_next_request_on_connections_that_are_kept(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(OK)
        await wire.request()
        await wire.gone(5.0)

    engine = await lab.engine(script)
    wire = await lab.client()
    assert await ask(wire) == 200
    lab.model.limits = replace(lab.limits, response_timeout=0.05)
    assert await ask(wire) == 504
    assert len(engine.wires) == 1


async def test_a_path_that_a_replica_from_before_does_not_have_is_not_there_yet(lab: Lab) -> None:
    """However the request got to it: at once, from the queue, in place of another."""
    engine = await lab.answering(OK, paths={"/v1/embeddings": "/v1/embeddings"}, limit=1)
    wire = await lab.client()
    assert {await ask(wire) for _ in range(2)} == {503}
    bad = await lab.engine(dying)
    while not bad.wires:
        assert await ask(wire) == 503
    assert not engine.requests
    assert (await lab.ask(post(BODY, b"/v1/embeddings"))).status == 200
    reply = await lab.chat()
    assert (reply.code, reply[b"retry-after"]) == ("model_not_ready", b"10")
    assert reply.json()["detail"] == "model 'm' has changed, and its engine does not serve /v1/chat/completions yet"


async def test_models_come_and_go_under_load_and_none_that_stays_loses_a_request(lab: Lab) -> None:
    lab.limits.queue_size = 1000
    engine = await lab.answering(answer(b'{"model":"m"}'))
    done = False

    async def client() -> set[int]:
        wire = await lab.client()
        statuses = set()
        while not done:
            statuses.add(await ask(wire))
        return statuses

    clients = [asyncio.ensure_future(client()) for _ in range(8)]
    for number in range(200):
        other = Model(f"other-{number}", kind="chat", engine="test", limits=Limits())
        lab.model.aliases = (f"alias-{number}",)
        lab.catalog.replace([other, lab.model])
        await asyncio.sleep(0)
    done = True
    assert await asyncio.gather(*clients) == [{200}] * 8
    assert (await lab.chat(b'{"model":"alias-199"}')).status == 200
    assert (await lab.chat(b'{"model":"alias"}')).code == "model_not_found"
    assert engine.requests


async def test_of_a_model_that_is_removed_who_waits_is_refused_and_who_is_served_is_served(lab: Lab) -> None:
    release = asyncio.Event()
    await lab.engine(held(release), limit=1)
    served = await lab.send(post(BODY))
    await until(lambda: lab.targets[0].in_flight == 1)
    waiting = await lab.send(post(BODY))
    await until(lambda: lab.model.waiting == 1)
    lab.catalog.replace([])
    lab.model.remove(lab.targets[0])
    reply = await waiting.response()
    assert (reply.status, reply.code, reply.json()["error"]["param"]) == (404, "model_not_found", "model")
    assert reply.json()["detail"] == "model 'm' was removed"
    release.set()
    assert (await served.response()).status == 200
    assert (await lab.chat()).code == "model_not_found"


async def test_one_whose_engine_dies_after_its_model_was_removed_waits_for_nobody(lab: Lab) -> None:
    go_on = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.request()
        await go_on.wait()

    await lab.engine(script)
    full = Engine(held(asyncio.Event()))
    await full.start()
    lab.engines.append(full)
    lab.add(full, limit=0)
    wire = await lab.send(post(BODY))
    await until(lambda: lab.targets[0].in_flight == 1)
    lab.catalog.replace([])
    go_on.set()
    assert (await wire.response()).code == "model_not_found"

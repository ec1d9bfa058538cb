"""An engine that lives and does not serve gets no requests and is started again; a busy one is left alone."""

import os
import signal
from typing import Any

import pytest
from asking import Client, Steady, Stream, ask, asks
from running import Up, fake, is_alive, until

CARE: dict[str, Any] = {
    "liveness_interval": "300ms", "liveness_timeout": "300ms", "liveness_failures": 2, "stop_grace": "300ms",
}  # fmt: skip


def model(up: Up, *flags: object, **fields: Any) -> dict[str, Any]:
    (up.folder / "faults").mkdir(exist_ok=True)
    return fake("--short", "--faults", up.folder / "faults", *flags, **{**CARE, **fields})


def engines(up: Up) -> list[int]:
    return [row.pid or 0 for row in up.rows()]


def goes_wrong(up: Up, pid: int, fault: str) -> None:
    """From now on."""
    new = up.folder / "fault"
    new.write_text(fault)
    new.rename(up.folder / "faults" / str(pid))


def restarted(up: Up, pid: int) -> None:
    """Until another engine is ready in the place of this one."""
    until(lambda: any(row.restarts for row in up.rows()))
    up.wait_for("ready")
    assert not is_alive(pid)
    assert sum(row.restarts for row in up.rows()) == 1


def circuits(up: Up) -> set[str]:
    """The states of m's replicas, as far as they get requests."""
    client = Client(up.address)
    client.connection.request("GET", "/metrics")
    with client.connection.getresponse() as answer:
        lines = answer.read().decode().splitlines()
    client.connection.close()
    found = [line for line in lines if line.startswith("router_target_circuit{") and line.endswith(" 1.0")]
    return {line.partition('state="')[2].partition('"')[0] for line in found}


@pytest.mark.parametrize("how", ["wedge", "SIGSTOP"])
def test_requests_at_an_engine_that_answers_nothing_go_to_the_other_replica_and_no_client_sees_an_error(
    up: Up, how: str
) -> None:
    up.ready({"m": model(up, replicas=2)})
    wedged, well = engines(up)
    with Steady(up.address) as load:
        if how == "wedge":
            goes_wrong(up, wedged, "wedge")
        else:
            os.kill(wedged, signal.SIGSTOP)
        restarted(up, wedged)
        (new,) = set(engines(up)) - {well}
        load.answered_by(new)
        load.answered_by(well)
    assert not load.faults, load.faults
    assert "m#0 failed: it does not answer /health as it should, 2 times in a row" in up.text()


def test_the_only_engine_that_answers_nothing_is_started_again_and_who_waited_at_it_is_told(up: Up) -> None:
    up.ready({"m": model(up)})
    (wedged,) = engines(up)
    stream = Stream(up.address)
    goes_wrong(up, wedged, "wedge")
    restarted(up, wedged)
    assert asks(up.address) == 200
    stream.join(1)
    assert b'data: {"error"' in stream.text


def test_an_engine_that_answers_500_to_everything_is_started_again(up: Up) -> None:
    up.ready({"m": model(up)})
    (failing,) = engines(up)
    goes_wrong(up, failing, "fail")
    restarted(up, failing)
    assert asks(up.address) == 200


def test_an_engine_that_answers_500_to_its_clients_and_is_well_by_its_own_word_is_started_again(up: Up) -> None:
    up.ready({"m": model(up, replicas=2)})
    broken, well = engines(up)
    goes_wrong(up, broken, "broken")
    until(lambda: asks(up.address) and any(row.restarts for row in up.rows()))
    restarted(up, broken)
    assert "m#0 failed: it does not answer a short request to /v1/chat/completions, 2 times in a row" in up.text()
    assert {ask(up.address) for _ in range(20)} == {(200, b"%d" % pid) for pid in engines(up)}
    assert well in engines(up)


def test_while_it_is_looked_at_an_engine_that_fails_its_clients_gets_no_requests(up: Up) -> None:
    up.ready({"m": model(up, replicas=2, liveness_failures=100)})
    broken, well = engines(up)
    goes_wrong(up, broken, "broken")
    until(lambda: asks(up.address) and "open" in circuits(up))
    with Steady(up.address) as load:
        load.more(200)
        (up.folder / "faults" / str(broken)).unlink()
        load.answered_by(broken)
    assert not load.faults, load.faults
    assert set(load.pids) == {broken, well}
    assert [row.restarts for row in up.rows()] == [0, 0]


def test_without_requests_only_a_deep_probe_finds_what_health_does_not_tell(up: Up) -> None:
    up.ready({"deep": model(up, deep_probe=True), "m": model(up)})
    for pid in engines(up):
        goes_wrong(up, pid, "broken")
    until(lambda: any(row.restarts for row in up.rows()))
    assert {row.model: row.restarts for row in up.rows()} == {"deep": 1, "m": 0}
    up.wait_for("ready")


def test_an_engine_that_hangs_with_every_request_loses_them_to_the_other_replica(up: Up) -> None:
    up.ready({"m": model(up, replicas=2, response_timeout="300ms")})
    hanging, well = engines(up)
    goes_wrong(up, hanging, "hang")
    until(lambda: asks(up.address) and "open" in circuits(up))
    until(lambda: [ask(up.address) for _ in range(10)] == [(200, b"%d" % well)] * 10)


def test_an_engine_that_was_halted_for_a_moment_is_left_out_and_then_goes_on_as_it_was(up: Up) -> None:
    up.ready({"m": model(up, replicas=2, liveness_failures=100)})
    halted, well = engines(up)
    with Steady(up.address, clients=1) as load:
        os.kill(halted, signal.SIGSTOP)
        until(lambda: "open" in circuits(up))
        assert {ask(up.address) for _ in range(10)} == {(200, b"%d" % well)}
        os.kill(halted, signal.SIGCONT)
        load.answered_by(halted)
    assert not load.faults, load.faults
    assert engines(up) == [halted, well]
    assert [row.restarts for row in up.rows()] == [0, 0]


def test_an_engine_that_streams_and_is_too_busy_for_its_probe_is_left_alone_as_long_as_it_streams(up: Up) -> None:
    end = up.folder / "end"
    up.ready({"m": model(up, "--end", end)})
    (busy,) = engines(up)
    stream = Stream(up.address)
    goes_wrong(up, busy, "busy")
    stream.more(80)  # 4 s and more: without the stream it would have failed twice by then
    assert engines(up) == [busy]
    assert up.row().restarts == 0
    end.touch()
    assert stream.ended()
    restarted(up, busy)


def test_settings_of_liveness_change_while_an_engine_runs(up: Up) -> None:
    up.ready({"m": model(up, liveness_interval="1s", liveness_failures=100)})
    (wedged,) = engines(up)
    goes_wrong(up, wedged, "wedge")
    until(lambda: "open" in circuits(up))
    up.client.apply(up.write({"m": model(up)}).file)
    restarted(up, wedged)

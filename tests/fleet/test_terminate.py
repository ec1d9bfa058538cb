"""A declared model is terminated and launched over HTTP, and the fleet and the file agree on what runs."""

import json
import os
import signal
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asking import Stream, ask, asks
from running import DEADLINE, Up, fake, is_alive, until


def call(up: Up, method: str, path: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(up.address + path, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def states(up: Up) -> dict[str, str]:
    return {row.model: row.state for row in up.rows()}


def terminated(up: Up) -> int:
    """Model `m`; the pid that its engine had."""
    (pid,) = [row.pid or 0 for row in up.rows() if row.model == "m"]
    assert call(up, "DELETE", "/v1/models/m") == (200, None)
    assert not is_alive(pid)
    return pid


def test_a_terminated_model_gives_its_engine_back_and_stays_in_the_file(up: Up) -> None:
    up.ready({"m": fake("--short"), "n": fake("--short")})
    before = {row.model: row.pid for row in up.rows()}
    terminated(up)
    assert states(up) == {"m": "stopped", "n": "ready"}
    assert [line.split()[:4] for line in up.cli("ps").stdout.splitlines()][1] == ["m", "0", "command", "stopped"]
    status, found = call(up, "GET", "/v1/models/m")
    assert (status, found["ready"]) == (200, False)
    assert call(up, "GET", "/ready")[0] == 200
    assert ask(up.address, "n") == (200, str(before["n"]).encode())


def test_requests_for_a_terminated_model_are_refused_at_once(up: Up) -> None:
    """With a queue_timeout longer than this test waits for anything."""
    up.ready({"m": fake("--short", queue_timeout="10m")})
    terminated(up)
    status, body = ask(up.address)
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (503, "model_not_ready")
    assert "it was terminated; `POST /v1/models`" in error["message"]


def test_it_is_launched_again(up: Up) -> None:
    up.ready({"m": fake("--short", replicas=2)})
    old = {row.pid for row in up.rows()}
    assert call(up, "DELETE", "/v1/models/m") == (200, None)
    assert call(up, "DELETE", "/v1/models/m") == (200, None)
    assert [(row.replica, row.state) for row in up.rows()] == [(0, "stopped"), (1, "stopped")]
    assert call(up, "POST", "/v1/models", {"model_name": "m", "replica": 7}) == (200, {"model_uid": "m"})
    assert asks(up.address) == 200
    up.wait_for("ready")
    assert len(up.rows()) == 2
    assert not old & {row.pid for row in up.rows()}


def test_what_it_had_begun_it_ends(up: Up) -> None:
    end = up.folder / "end"
    up.ready({"m": fake("--end", end)})
    stream = Stream(up.address)
    with ThreadPoolExecutor() as aside:
        asked = aside.submit(call, up, "DELETE", "/v1/models/m")
        until(lambda: states(up) == {"m": "draining"})
        assert asks(up.address) == 503
        stream.more()
        assert not asked.done()
        end.touch()
        assert stream.ended()
        assert asked.result(DEADLINE) == (200, None)
    assert states(up) == {"m": "stopped"}


def test_a_model_that_starts_can_be_terminated_and_launched_while_it_ends(up: Up) -> None:
    gate = up.folder / "gate"
    up.write({"m": fake("--short", "--gate", gate)}).started()
    terminated(up)
    assert states(up) == {"m": "stopped"}
    assert call(up, "POST", "/v1/models?wait_ready=false", {"model_name": "m"}) == (200, {"model_uid": "m"})
    until(lambda: states(up) == {"m": "starting"})
    gate.touch()
    assert call(up, "POST", "/v1/models", {"model_name": "m"}) == (200, {"model_uid": "m"})
    assert asks(up.address) == 200


def test_a_file_that_wants_the_same_engines_leaves_it_terminated(up: Up) -> None:
    models = {"m": fake("--short"), "n": fake("--short")}
    up.ready(models)
    terminated(up)
    assert up.cli("apply").returncode == 0
    up.write({**models, "m": fake("--short", aliases=["other"]), "k": fake("--short")})
    up.process.send_signal(signal.SIGHUP)
    until(lambda: states(up) == {"m": "stopped", "n": "ready", "k": "ready"})
    assert asks(up.address, "other") == 503


def test_a_file_that_wants_other_engines_launches_it(up: Up) -> None:
    up.ready({"m": fake("--short")})
    terminated(up)
    assert up.write({"m": fake("--short", env={"A": "1"})}).cli("apply").returncode == 0
    assert asks(up.address) == 200


def test_a_model_that_leaves_the_file_and_comes_back_runs(up: Up) -> None:
    models = {"m": fake("--short"), "n": fake("--short")}
    up.ready(models)
    terminated(up)
    assert up.write({"n": models["n"]}).cli("apply").returncode == 0
    assert states(up) == {"n": "ready"}
    assert up.write(models).cli("apply").returncode == 0
    assert asks(up.address) == 200


def test_a_router_that_starts_runs_all_that_the_file_declares(up: Up) -> None:
    up.ready({"m": fake("--short")})
    terminated(up)
    up.end()
    up.ready()
    assert asks(up.address) == 200


def test_a_server_elsewhere_is_not_terminated(up: Up) -> None:
    up.ready({"m": fake("--short"), "far": {"url": "http://127.0.0.1:9/v1"}})
    status, body = call(up, "DELETE", "/v1/models/far")
    assert (status, "served elsewhere" in body["detail"]) == (400, True)


def test_gpus_that_are_counted_by_index_stay_a_terminated_models_own(up: Up) -> None:
    """Else an engine that starts meanwhile would take its place, and be there still when it is launched."""
    fields = {"gpus": 1, "accelerator": "rocm"}
    up.ready({"m": fake("--short", **fields), "n": fake("--short", **fields)})
    assert {row.model: row.gpus for row in up.rows()} == {"m": ["0"], "n": ["1"]}
    terminated(up)
    (running,) = [row.pid or 0 for row in up.rows() if row.pid]
    os.kill(running, signal.SIGKILL)
    until(lambda: [row.restarts for row in up.rows() if row.state == "ready"] == [1])
    assert call(up, "POST", "/v1/models", {"model_name": "m"}) == (200, {"model_uid": "m"})
    assert {row.model: row.gpus for row in up.rows()} == {"m": ["0"], "n": ["1"]}

"""What an engine knows and says stays where it belongs."""

import json
import sys
import urllib.error
import urllib.request
from typing import Any

from running import Up, until

CLIENT_KEY, REMOTE_KEY = "client-key-0123456789", "remote-key-0123456789"
ENVIRONMENT = {"CLIENT_KEY": CLIENT_KEY, "REMOTE_KEY": REMOTE_KEY, "HARMLESS": "harmless-0123456789"}
TELLTALE = (
    "import os, sys; print(' '.join(f'{k}={v}' for k, v in os.environ.items() if '0123456789' in v or k == 'OWN'))"
)


def talkative(**fields: Any) -> dict[str, Any]:
    """An engine that says what it knows and ends."""
    argv = [sys.executable, "-I", "-c", TELLTALE]
    return {"engine": "command", "options": {"argv": argv, "key_env": "OWN"}, **fields}


def start(up: Up, **fields: Any) -> str:
    """What `router ps` says of the engine."""
    models = {"m": talkative(**fields), "far": {"url": "http://127.0.0.1:9/v1", "api_key": "${REMOTE_KEY}"}}
    up.write(models, keys=[{"name": "a", "key": "${CLIENT_KEY}"}]).start(**ENVIRONMENT)
    return until(lambda: next((row.error for row in up.rows() if row.error), None))


def test_an_engine_does_not_inherit_the_keys_of_clients_and_of_other_servers(up: Up) -> None:
    error = start(up)
    assert "harmless" in error
    assert CLIENT_KEY not in error
    assert REMOTE_KEY not in error


def test_an_engine_gets_a_key_that_its_model_hands_it(up: Up) -> None:
    assert f"HANDED={REMOTE_KEY}" in start(up, env={"HANDED": "${REMOTE_KEY}"})


def test_an_engine_that_says_its_own_key_tells_nobody(up: Up) -> None:
    assert "OWN=(its key)" in start(up)
    assert "OWN=(its key)" in up.text()


def test_who_has_no_key_is_not_told_what_an_engine_said(up: Up) -> None:
    start(up)
    try:
        urllib.request.urlopen(f"{up.client.info().address}/ready", timeout=10)
        raise AssertionError("it cannot be ready")
    except urllib.error.HTTPError as answer:
        with answer:
            body = answer.read()
    assert "harmless" not in body.decode()
    assert json.loads(body)["missing"]["m"].startswith("its engine ")


def test_an_admin_is_told_all_about_an_engine_that_failed_and_others_its_cause_in_one_line(up: Up) -> None:
    said = "print('ModuleNotFoundError: No module named \\'flash_attn\\''); raise SystemExit(3)"
    model = {"engine": "command", "queue_timeout": "0s", "options": {"argv": [sys.executable, "-I", "-c", said]}}
    keys = [{"name": "a", "key": "${CLIENT_KEY}"}, {"name": "b", "key": "${REMOTE_KEY}", "admin": True}]
    up.write({"m": model}, keys=keys).start(**ENVIRONMENT)
    (row,) = until(lambda: [row for row in up.rows() if row.diagnosis])
    assert row.diagnosis
    assert "flash_attn" in row.diagnosis.evidence
    errors = [ask(up, key) for key in (CLIENT_KEY, REMOTE_KEY)]
    for error in errors:
        assert error["code"] == "model_not_ready"
        assert row.diagnosis.cause in error["message"]
        assert "flash_attn" not in error["message"]
    assert "diagnosis" not in errors[0]
    told = errors[1]["diagnosis"]
    assert told["evidence"] == row.diagnosis.evidence
    assert "No module named 'flash_attn'" in told["log"]
    assert set(told) == {"cause", "evidence", "remedy", "error", "log"}


def ask(up: Up, key: str) -> Any:
    """The error of a chat request."""
    request = urllib.request.Request(
        f"{up.client.info().address}/v1/chat/completions",
        data=b'{"model": "m", "messages": []}',
        headers={"content-type": "application/json", "authorization": f"Bearer {key}"},
    )
    try:
        urllib.request.urlopen(request, timeout=10)
        raise AssertionError("it cannot be ready")
    except urllib.error.HTTPError as answer:
        with answer:
            return json.loads(answer.read())["error"]

"""What the router answers itself: health, readiness, the list of models."""

import pytest
from lab import OK, Lab

pytestmark = pytest.mark.anyio


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: r\r\n\r\n".encode()


async def test_it_lives(lab: Lab) -> None:
    reply = await lab.ask(get("/health"))
    assert (reply.status, reply.json()) == (200, {"status": "ok"})


async def test_it_is_ready_once_every_model_is(lab: Lab) -> None:
    lab.model.outlook = "it loads its weights"
    reply = await lab.ask(get("/ready"))
    assert (reply.status, reply.json()) == (503, {"status": "not_ready", "missing": {"m": "it loads its weights"}})
    assert reply[b"retry-after"] is not None
    await lab.answering(OK)
    reply = await lab.ask(get("/ready"))
    assert (reply.status, reply.json()) == (200, {"status": "ready", "missing": {}})


async def test_all_names_are_listed(lab: Lab) -> None:
    entries = (await lab.ask(get("/v1/models"))).json()["data"]
    assert [(entry["id"], entry["root"], entry["ready"]) for entry in entries] == [
        ("m", "m", False),
        ("alias", "m", False),
    ]


SPELLINGS = ["/v1/models", "/models", "/v1/v1/models", "/anthropic/v1/models", "/anthropic/models"]


@pytest.mark.parametrize("path", SPELLINGS)
async def test_clients_spell_the_list_in_many_ways(lab: Lab, path: str) -> None:
    assert [entry["id"] for entry in (await lab.ask(get(path))).json()["data"]] == ["m", "alias"]
    assert (await lab.ask(get(f"{path}/alias"))).json()["id"] == "alias"


async def test_a_terminated_model_is_not_missed(lab: Lab) -> None:
    lab.model.stopped = True
    assert (await lab.ask(get("/ready"))).status == 200


@pytest.mark.parametrize("path", ["/v1/models/m", "/v1/models/alias", "/v1/models/org/a%20b", "/v1/models/org%2Fa%20b"])
async def test_one_model_is_described(lab: Lab, path: str) -> None:
    lab.call("org/a b")
    reply = await lab.ask(get(path))
    assert (reply.status, reply.json()["object"], reply.json()["root"]) == (200, "model", "m")


@pytest.mark.parametrize(
    ("path", "code"), [("/v1/models/x", "model_not_found"), ("/v1/models/", "model_not_found"), ("/x", "not_found")]
)
async def test_what_is_not_there_is_404(lab: Lab, path: str, code: str) -> None:
    reply = await lab.ask(get(path))
    assert (reply.status, reply.code) == (404, code)


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/v1/models/m"])
async def test_they_are_only_read(lab: Lab, path: str) -> None:
    reply = await lab.ask(get(path, "DELETE"))
    assert (reply.status, reply.code, reply[b"allow"]) == (405, "method_not_allowed", b"GET, HEAD")
    assert (await (await lab.send(get(path, "HEAD"))).head()).status in (200, 503)

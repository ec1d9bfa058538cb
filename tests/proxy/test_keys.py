"""Who may ask: every path but /health and /ready wants a key once there are any."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import hashlib
from dataclasses import dataclass

import pytest
from lab import OK, Lab, post

from router.proxy.keys import Keys

pytestmark = pytest.mark.anyio
BODY = b'{"model":"m"}'


@dataclass
class Key:
    name: str
    digest: bytes
    admin: bool = False


@pytest.fixture(autouse=True)
def keys(lab: Lab) -> None:
    secrets = {"dify": "sk-dify", "n8n": "sk-n8n"}
    lab.proxy.keys = Keys([Key(name, hashlib.sha256(text.encode()).digest()) for name, text in secrets.items()])


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer sk-dify", b"authorization: bearer sk-n8n", b"AUTHORIZATION: BEARER   sk-dify  ",
        b"x-api-key: sk-dify", b"X-API-KEY: sk-n8n", b"api-key: sk-dify", b"Authorization:\r\nx-api-key: sk-dify",
        b"Authorization: Bearer \r\napi-key: sk-dify",
    ],
)  # fmt: skip
async def test_a_known_key_lets_in(lab: Lab, header: bytes) -> None:
    engine = await lab.answering(OK)
    assert (await lab.ask(post(BODY, extra=header + b"\r\n"))).status == 200
    assert b"sk-" not in engine.wires[0].received


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"", "missing_api_key"), (b"Authorization:\r\n", "missing_api_key"), (b"Authorization: Bearer\r\n", "missing_api_key"),
        (b"Authorization: Bearer \r\n", "missing_api_key"), (b"Authorization: Basic sk-dify\r\n", "missing_api_key"),
        (b"Authorization: sk-dify\r\n", "missing_api_key"), (b"x-api-key:\r\n", "missing_api_key"),
        (b"Cookie: api-key=sk-dify\r\n", "missing_api_key"), (b"Authorization: Bearer sk-dif\r\n", "invalid_api_key"),
        (b"Authorization: Bearer sk-dify2\r\n", "invalid_api_key"), (b"Authorization: Bearer SK-DIFY\r\n", "invalid_api_key"),
        (b"Authorization: Bearer sk-dify sk-dify\r\n", "invalid_api_key"), (b"x-api-key: \xff\r\n", "invalid_api_key"),
        (b"Authorization: Bearer wrong\r\nx-api-key: sk-dify\r\n", "invalid_api_key"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/models", b"/nowhere"])
async def test_anything_else_does_not(lab: Lab, header: bytes, code: str, path: bytes) -> None:
    engine = await lab.answering(OK)
    reply = await lab.ask(post(BODY, path, extra=header))
    assert (reply.status, reply.code, reply[b"www-authenticate"]) == (401, code, b"Bearer")
    assert not engine.wires


@pytest.mark.parametrize(
    "path", [b"/v1/models", b"/v1/models/m", b"/v1/models/nope", b"/docs", b"/", b"/health/", b"//health", b"/ready/x"]
)
async def test_every_other_path_wants_a_key_too(lab: Lab, path: bytes) -> None:
    get = b"GET %b HTTP/1.1\r\nhost: r\r\n%b\r\n"
    assert (await lab.ask(get % (path, b""))).status == 401
    assert (await lab.ask(get % (path, b"api-key: sk-dify\r\n"))).status in (200, 404)


@pytest.mark.parametrize(("path", "status"), [(b"/health", 200), (b"/ready", 503)])
async def test_health_and_readiness_are_open(lab: Lab, path: bytes, status: int) -> None:
    assert (await lab.ask(b"GET %b HTTP/1.1\r\nhost: r\r\n\r\n" % path)).status == status


async def test_the_body_is_not_read_before_the_key(lab: Lab) -> None:
    wire = await lab.send(post(BODY, extra=b"Expect: 100-continue\r\n")[: -len(BODY)])
    assert (await wire.response()).status == 401
    assert b"100 Continue" not in wire.received

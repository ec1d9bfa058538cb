"""What an engine has for its operator stays out of clients' reach, however a path to it is spelled."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from e2e.real_router import RealRouter, router_up
from http_wire import Wire, ask, bearer, send, wired
from testbed import HERE, short_folder

CONTROLS = {
    "llamacpp-chat": ("/slots", "/props", "/slots/0?action=erase", "/lora-adapters", "/health", "/metrics"),
    "vllm-chat": (
        "/collective_rpc",
        "/reset_prefix_cache",
        "/server_info",
        "/metrics",
        "/load",
        "/version",
        "/sleep",
        "/ping",
        "/invocations",
    ),
}
"""Paths that are 404 at the router, or, as /health and /metrics, its own."""
OWN = ("/health", "/metrics")
SPELLINGS = (
    "{path}",
    "/{path}",
    "//{path}",
    "{path}/",
    "{path}//",
    "/.{path}",
    "/v1{path}",
    "/v1/v1{path}",
    "/v1/..{path}",
    "/V1/..{path}",
    "/v1/../../{path}",
    "/v1/chat/completions/../../..{path}",
    "/v1/chat/completions/..;{path}",
    "/v1/%2e%2e{path}",
    "/v1/%2E%2E/{path}",
    "/v1/.%2e{path}",
    "/v1/..%2f{bare}",
    "/v1%2f..%2f{bare}",
    "/%2f{bare}",
    "/%2F{bare}",
    "/%252f{bare}",
    "/%2e{path}",
    "/..%5c{bare}",
    "/v1\\..\\{bare}",
    "\\{bare}",
    "/v1/engines/{model}{path}",
    "/v1/engines/{model}/../..{path}",
    "/v1/engines/{model}/v1/..{path}",
    "/v1/engines/../..{path}",
    "/engines/{model}{path}",
    "/openai/deployments/{model}{path}",
    "/openai/deployments/{model}/../../..{path}",
    "/anthropic{path}",
    "/anthropic/v1/../..{path}",
    "/v1/responses/..{path}",
    "/v1/responses/../..{path}",
    "/v1/responses/%2e%2e%2f%2e%2e{path}",
    "/v1/responses/x%2f..%2f..%2f{bare}/cancel",
    "{path};v=1",
    "{path}#fragment",
    "{path}%23",
    "{path}%00",
    "{path}%00/v1/chat/completions",
    "{path}%3f",
    "{path}%20",
    "{path}\x00",
    "/v1/chat/completions\x00{path}",
    "/v1/chat/completions\t{path}",
    "{upper}",
    "http://127.0.0.1{path}",
    "http://engine.invalid{path}",
    "HTTP://127.0.0.1//{bare}",
    "http://127.0.0.1/v1/..{path}",
    "{path}?/v1/chat/completions",
    "/v1/chat/completions%00{path}",
    "/v1/chat/completions/{bare}",
    "/v1/models/../..{path}",
    "/v1/models/{model}/../../..{path}",
    "/v1/models/..%2f..{path}",
)
REFUSED = {400, 401, 404, 405}


@pytest.fixture(scope="module")
def behind(router: RealRouter) -> Iterator[tuple[RealRouter, dict[str, Wire]]]:
    """A second router over the engines of the first, with a wire to each that remembers what it is asked."""
    engines = {model: router.engine(model) for model in CONTROLS}
    with (
        short_folder() as folder,
        wired(engines["llamacpp-chat"].port) as first,
        wired(engines["vllm-chat"].port) as second,
    ):
        variables = {
            "LLAMACPP_WIRE": str(first.port),
            "LLAMACPP_KEY": engines["llamacpp-chat"].key,
            "VLLM_WIRE": str(second.port),
            "VLLM_KEY": engines["vllm-chat"].key,
        }
        with router_up(str(HERE / "wired.yaml"), folder, variables) as running:
            running.wait_ready(20)
            yield running, {"llamacpp-chat": first, "vllm-chat": second}


@pytest.mark.parametrize("model", CONTROLS)
def test_the_engines_do_have_these_paths(router: RealRouter, model: str) -> None:
    """Else the other test would show nothing. Only those that change nothing are asked."""
    engine = router.engine(model)
    asked = [path for path in CONTROLS[model] if "sleep" not in path and "?" not in path]
    found = {path: ask(engine.port, path, None, bearer(engine.key)).status for path in asked}
    assert set(found.values()) <= {200, 405}, found


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("model", CONTROLS)
def test_a_control_path_leads_nowhere(
    behind: tuple[RealRouter, dict[str, Wire]], model: str, spelling: str, method: str
) -> None:
    router, wires = behind
    for path in CONTROLS[model]:
        target = spelling.format(path=path, bare=path[1:], upper=path.upper(), model=model)
        body = b'{"model": "%b", "messages": []}' % model.encode() if method == "POST" else b""
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        answer = send(router.port, head.encode() + body)
        if answer.status not in REFUSED:
            assert urlsplit(path).path in OWN, f"{method} {target}: {answer.status} {answer.body[:200]!r}"
            assert b"llamacpp:" not in answer.body
            assert b"vllm:" not in answer.body
        assert not wires[model].asked(), f"{method} {target} reached the engine"


def test_what_is_asked_the_right_way_does_reach_the_engine(behind: tuple[RealRouter, dict[str, Wire]]) -> None:
    """The wires are not deaf."""
    router, wires = behind
    for model, wire in wires.items():
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        assert ask(router.port, "/v1/v1/chat/completions", body).status == 200
        assert wire.asked().startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")

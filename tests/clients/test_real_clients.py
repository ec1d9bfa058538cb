"""Clients as their users run them, each a script in an environment of its own, against every engine."""

import json
import os
import subprocess
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from e2e.real_router import RealRouter
from matrix import FAILS, Matrix
from testbed import HERE, KEY, MODELS, REPOSITORY, openai_tokens

from demo.vocabulary import SENTENCE

BIN = REPOSITORY / ".clients/bin"
NODE = HERE / "node"
TIMEOUT = 240.0
"""Seconds for one script with all of its engines."""
CLIENTS: dict[str, tuple[list[str], list[str]]] = {
    "Anthropic SDK (Python)": (["with_anthropic.py"], ["llama.cpp", "vLLM"]),
    "Anthropic SDK (Node)": (["clients.mjs", "anthropic"], ["llama.cpp", "vLLM"]),
    "Cohere SDK": (["with_cohere.py"], ["llama.cpp", "infinity", "vLLM"]),
    "LangChain": (["with_langchain.py"], ["llama.cpp", "infinity", "vLLM"]),
    "LiteLLM SDK": (["with_litellm.py"], ["llama.cpp", "infinity", "vLLM"]),
    "LlamaIndex": (["with_llama_index.py"], ["llama.cpp", "infinity", "vLLM"]),
    "OpenAI SDK (Node)": (["clients.mjs", "openai"], [*MODELS]),
    "OpenAI SDK (Python)": (["with_openai.py"], [*MODELS]),
    "Xinference client": (["with_xinference.py"], [*MODELS]),
}
"""By the name in the page: its script, and the engines that have a model for one of its checks."""

Report = dict[str, list[dict[str, Any]]]
"""The lines of one run, by engine."""


@pytest.fixture(scope="session")
def reports(router: RealRouter) -> Callable[[str], Report]:
    """What a client's script said of all engines. It is started once: most of its time is its imports."""

    @cache
    def of(client: str) -> Report:
        done = _start(CLIENTS[client][0], router.port)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert lines, f"the script ended at once\n{done.stderr[-3000:]}"
        expected, *found = lines
        came = [[line["engine"], line["path"], line["what"]] for line in found]
        assert came == expected["expected"], f"the script ended early\n{done.stderr[-3000:]}"
        return {engine: [line for line in found if line["engine"] == engine] for engine in MODELS}

    return of


def _start(script: list[str], port: int) -> subprocess.CompletedProcess[str]:
    if script[0].endswith(".py"):
        argv = [str(BIN / "python"), str(HERE / "scripts" / script[0]), *script[1:]]
    else:
        argv = [str(BIN / "node"), str(NODE / script[0]), *script[1:]]
    missing = [str(place) for place in (BIN / "python", BIN / "node", NODE / "node_modules") if not place.exists()]
    assert not missing, f"not installed: {missing}; run `make clients`"
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "ROUTER_ROOT": f"http://127.0.0.1:{port}",
        "ROUTER_KEY": KEY,
        "ROUTER_MODELS": json.dumps(MODELS),
        "ROUTER_SENTENCE": SENTENCE,
        "TIKTOKEN_CACHE_DIR": openai_tokens(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ANONYMIZED_TELEMETRY": "False",
    }
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=TIMEOUT, check=False)


@pytest.mark.parametrize(
    ("client", "engine"), [(client, engine) for client, (_, engines) in CLIENTS.items() for engine in engines]
)
def test_a_client_works(reports: Callable[[str], Report], matrix: Matrix, client: str, engine: str) -> None:
    lines = reports(client)[engine]
    assert lines, "no check is for this engine"
    for line in lines:
        matrix.saw(client, line["path"], engine, line["what"], line["outcome"])
    failed = [f"{line['path']} ({line['what']}): {line['detail']}" for line in lines if line["outcome"] == FAILS]
    assert not failed, "\n".join(failed)

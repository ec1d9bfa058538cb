"""vLLM that is stopped by somebody ends its answers as if all were well, but for a word; clients are told the truth."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx2
from real_router import Up

MESSAGES = [{"role": "user", "content": "Go on."}]
ASKED = {"model": "vllm-chat", "messages": MESSAGES, "max_tokens": 15000, "ignore_eos": True}


def test_an_answer_that_vllm_gives_up_is_no_success(installed: None, up: Up) -> None:  # noqa: ARG001
    """A stream and, at the same time, an answer that is none."""
    with up("vllm_processes.yaml") as router, ThreadPoolExecutor(1) as pool:
        router.wait_ready()
        (pid,) = (row["pid"] for row in router.rows() if row["model"] == "vllm-chat")
        with httpx2.Client(base_url=f"http://127.0.0.1:{router.port}", timeout=120) as client:
            asked = ASKED | {"stream": True}
            with client.stream("POST", "/v1/chat/completions", json=asked) as stream:
                pieces = stream.iter_bytes()
                begun = next(pieces)
                whole = pool.submit(client.post, "/v1/messages", json=ASKED)
                while next(row["in_flight"] for row in router.rows() if row["pid"] == pid) < 2:
                    begun += next(pieces)
                os.kill(pid, signal.SIGTERM)
                rest = begun + b"".join(pieces)
            answer = whole.result(60)
    assert rest.startswith(b"data: ")
    last = rest.rstrip(b"\n").rpartition(b"\n\n")[2]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "engine_failed", rest[-2000:]
    assert b"[DONE]" not in rest
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")

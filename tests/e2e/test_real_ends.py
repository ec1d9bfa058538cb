"""However it ends, and whatever its engines are doing: no process, port, socket or shared memory is left."""

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from raw_http import Request, events
from real_router import RealRouter, Up, wait_until

SHM = Path("/dev/shm")
STOP_GRACE = 10.0
"""Seconds, as the file says."""
ONE_PROCESS = {"VLLM_PROCESSES": "0", "VLLM_EXECUTOR": "uni"}
BODY = {"messages": [{"role": "user", "content": "Go on for ever."}], "max_tokens": 12000, "ignore_eos": True}


def tree(router: RealRouter, model: str) -> list[psutil.Process]:
    """The engine's processes, its first one first."""
    pid = next(row["pid"] for row in router.rows() if row["model"] == model)
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def shared_memory(processes: list[psutil.Process]) -> set[str]:
    """The names in /dev/shm of what these processes have mapped or open."""
    found = set()
    for process in processes:
        with suppress(OSError):
            maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
            found |= {line.split(maxsplit=5)[5] for line in maps if f" {SHM}/" in line}
            found |= {str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir() if link.is_symlink()}
    return {name for name in found if name.startswith(f"{SHM}/") and Path(name).exists()}


def down(router: RealRouter) -> None:
    router.command("down")


def ctrl_c(router: RealRouter) -> None:
    router.interrupt()


@pytest.mark.parametrize(("processes", "way"), [(1, down), (3, ctrl_c)])
def test_nothing_is_left_of_vllm_that_is_loading(up: Up, processes: int, way: Callable[[RealRouter], None]) -> None:
    with up("vllm_processes.yaml") as router:
        wait_until("the router answers", (router.state / "router.sock").exists, 20)
        wait_until("vLLM runs", lambda: router.rows()[0]["pid"], 20, every=0.1)
        wait_until("it has forked", lambda: len(tree(router, "vllm-chat")) >= processes, 60, every=0.5)
        assert not router.is_ready()
        router.end(lambda: way(router))


@pytest.mark.parametrize(("variables", "way"), [(ONE_PROCESS, down), ({}, ctrl_c)])
def test_nothing_is_left_of_vllm_that_is_ready(
    up: Up, variables: dict[str, str], way: Callable[[RealRouter], None]
) -> None:
    with up("vllm_processes.yaml", variables) as router:
        ready = router.wait_ready()
        ours = shared_memory(tree(router, "vllm-chat"))
        took = router.end(lambda: way(router))
        print(f"vLLM was ready after {ready:.1f} s and ended in {took:.1f} s")  # noqa: T201
        assert ours or variables, "processes of their own share memory"
        assert not [name for name in ours if Path(name).exists()]


def begun(router: RealRouter, model: str) -> tuple[Request, Iterator[tuple[float, bytes]], bytes]:
    request = Request(router.port, "/v1/chat/completions", {"model": model, "stream": True, **BODY})
    reads = request.reads()
    return request, reads, next(reads)[1]


def test_nothing_is_left_when_ctrl_c_comes_in_the_middle_of_streams_and_each_ends_with_an_error(up: Up) -> None:
    with up("vllm_processes.yaml", ONE_PROCESS) as router:
        router.wait_ready()
        router.rows()
        streams = [begun(router, model) for model in ("vllm-chat", "llamacpp-slow")]
        router.end(router.interrupt)
        for request, reads, first in streams:
            last = events(first + b"".join(piece for _, piece in reads))[-1]
            assert last.startswith(b'data: {"error":')
            request.leave()


def test_sigkill_to_vllms_api_server_leaves_nothing_of_it_and_a_new_one_serves(up: Up) -> None:
    with up("vllm_processes.yaml") as router:
        router.wait_ready()
        killed = tree(router, "vllm-chat")
        assert len(killed) >= 3
        memory = shared_memory(killed)
        assert memory, "vLLM shares memory between its processes"
        killed[0].send_signal(signal.SIGKILL)
        took = wait_until("all of it is gone", lambda: not any(map(alive, killed)), STOP_GRACE)
        wait_until("the router has noticed", lambda: state(router) != "ready", 5)
        print(f"the rest of vLLM was gone {took:.1f} s after its API server was killed")  # noqa: T201
        assert not [name for name in memory if Path(name).exists()]
        wait_until("a new one is ready", router.is_ready, 120, every=0.1)
        row = next(row for row in router.rows() if row["model"] == "vllm-chat")
        assert row["restarts"] == 1
        assert row["pid"] != killed[0].pid
        answer = router.client.chat.completions.create(
            model="vllm-chat", messages=[{"role": "user", "content": "Say something."}], max_tokens=5
        )
        assert answer.choices[0].message.content
        # And its end, by `router down` in the middle of a stream.
        memory = shared_memory(tree(router, "vllm-chat"))
        request, _, _ = begun(router, "vllm-chat")
        router.end(lambda: down(router))
        request.leave()
        assert not [name for name in memory if Path(name).exists()]


def alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def state(router: RealRouter) -> Any:
    return next(row["state"] for row in router.rows() if row["model"] == "vllm-chat")

"""A router that is killed, and the next one: vLLM, an API server, an engine core and a worker, goes on as it is."""

import psutil
from real_router import RealRouter, Up, wait_until


def kill(router: RealRouter) -> None:
    router.process.kill()
    router.process.wait(10)


def created(router: RealRouter) -> dict[str, float]:
    """When each engine's process was."""
    return {row["model"]: psutil.Process(row["pid"]).create_time() for row in router.rows()}


def text(router: RealRouter, model: str) -> str:
    answer = router.client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Go on."}], max_tokens=12, temperature=0
    )
    return str(answer.choices[0].message.content)


def test_vllm_outlives_a_killed_router_and_ends_when_none_comes_back(up: Up) -> None:
    with up("vllm_processes.yaml") as router:
        router.wait_ready()
        before, said = created(router), {model: text(router, model) for model in ("vllm-chat", "llamacpp-slow")}
        processes = set(router.processes())
        kill(router)
        router.start(ROUTER_TEST_ORPHAN_GRACE="1s")
        took = router.wait_ready()
        print(f"adopted, and the router ready after {took:.2f} s")  # noqa: T201
        assert created(router) == before
        assert {process for process in processes if process.is_running()} >= set(router.marked())
        assert {model: text(router, model) for model in said} == said
        kill(router)
        wait_until("every process of vLLM has ended", lambda: not psutil.wait_procs(processes, timeout=0)[1], 60)
        assert not router.marked()
        assert "no router runs" in router.command("down", fails=True)

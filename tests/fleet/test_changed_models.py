"""A model whose files changed after the check."""

import asyncio
from pathlib import Path
from typing import Any

from launchers.base import Program, Source
from launchers.llamacpp_options import LlamaCppOptions
from router.catalog import Model
from router.config import EngineSpec
from router.config.specs import Care, GpuRequest, Limits
from router.fleet.engine import Engine, Surroundings
from router.fleet.files import Files
from router.fleet.gpu_room import GpuRoom
from router.fleet.ports import Ports
from router.fleet.remembered import Remembered
from router.fleet.states import State


def spec(folder: Path) -> EngineSpec:
    return EngineSpec(
        name="m",
        kind="chat",
        aliases=(),
        limits=Limits(queue_timeout=1, queue_size=1, connect_timeout=1, response_timeout=1, stall_timeout=1),
        engine="llamacpp",
        program=Program(("llama-server",), "server"),
        source=Source("folder", str(folder)),
        options=LlamaCppOptions(),
        args=(),
        env={},
        replicas=1,
        gpus=GpuRequest(),
        accelerator="cuda",
        paths=frozenset(),
        memory=None,
        care=Care(liveness_interval=1, liveness_timeout=1, liveness_failures=1, deep_probe=False),
        start_timeout=1,
        stop_grace=1,
        retire_timeout=1,
    )


def test_what_the_launcher_refuses_at_a_start_is_that_engines_failure_alone(tmp_path: Path) -> None:
    (tmp_path / "one.gguf").touch()
    (tmp_path / "two.gguf").touch()
    states: list[str] = []

    async def run() -> None:
        nothing_is_started: Any = None
        failed = asyncio.Event()

        def changed(engine: Engine, _detail: str) -> None:
            states.append(engine.state)
            if engine.state is State.FAILED:
                failed.set()

        wanted = spec(tmp_path)
        model = Model("m", kind="chat", engine="llamacpp", limits=wanted.limits)
        cleared = asyncio.Event()
        cleared.set()
        files = Files(tmp_path)
        room = GpuRoom(nothing_is_started, Remembered(tmp_path / "memory.json"), [wanted])
        around = Surroundings(nothing_is_started, Ports(), room, files, frozenset(), cleared, changed)
        engine = Engine(wanted, 0, model, around)
        running = asyncio.ensure_future(engine.run())
        async with asyncio.timeout(10):
            await failed.wait()
            assert "holds one.gguf, two.gguf; give the path of the one .gguf file" in str(engine.error)
            engine.stop()
            await running

    asyncio.run(run())
    assert states == ["starting", "failed", "stopped"]

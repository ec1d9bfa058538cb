"""What a real llama.cpp takes for its KV cache, against what it was thought to take."""

import os
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_need import asked, spec

from demo import llama
from launchers import LAUNCHERS
from launchers.base import Launch, Program, Source
from router.fleet.need import OVERHEAD
from router.fleet.ports import Ports

ENGINES = Path(os.environ.get("ROUTER_TEST_ENGINES") or Path(__file__).parents[2] / ".engines")
PATIENCE = 60.0
SIZE = re.compile(r"llama_kv_cache: size = +([0-9.]+) MiB")


def server() -> Program:
    launcher = LAUNCHERS["llamacpp"]
    found = launcher.find([ENGINES / "llamacpp-server"], msgspec.convert({"form": "server"}, launcher.Options))
    if found is None:
        pytest.fail(f"llama-server is not installed in {ENGINES}: run `make test`, or set ROUTER_TEST_ENGINES")
    return found


def cache_of(model: Path, *args: str, **options: Any) -> float:
    """Bytes, as the engine says itself, to a hundredth of a MiB."""
    launcher, ports = LAUNCHERS["llamacpp"], Ports()
    command = launcher.command(
        Launch(
            name="m",
            kind="chat",
            source=Source("file", str(model)),
            options=msgspec.convert(options, launcher.Options),
            args=(*args, "--verbose"),
            port=ports.take(),
            key="sk-engine",
            program=server(),
        )
    )
    environment = {**os.environ, **command.env}
    with subprocess.Popen(command.argv, env=environment, stderr=subprocess.STDOUT, stdout=subprocess.PIPE) as process:
        end = threading.Timer(PATIENCE, process.kill)
        end.start()
        try:
            assert process.stdout is not None
            said = (SIZE.search(line.decode(errors="replace")) for line in process.stdout)
            return float(next(filter(None, said))[1]) * 2**20
        finally:
            end.cancel()
            process.kill()


@pytest.mark.parametrize(
    ("shape", "args", "options"),
    [
        (llama.ENDLESS, (), {"context": 16384}),
        (llama.ENDLESS, (), {}),
        (llama.ENDLESS, (), {"context": 8192, "slots": 4}),
        (llama.ENDLESS, ("-c", "4096"), {"context": 16384, "cache_type_k": "q8_0"}),
        (llama.Shape(kv_heads=1, layers=5, head_dim=64), (), {"context": 4096}),
    ],
    ids=["context", "the model's own context", "slots share it", "quantised", "fewer KV heads"],
)
def test_the_kv_cache_is_as_large_as_thought(
    tmp_path: Path, shape: llama.Shape, args: tuple[str, ...], options: dict[str, Any]
) -> None:
    model = tmp_path / "m.gguf"
    llama.write_gguf(model, shape)
    thought = asked(spec("llamacpp", Source("file", str(model)), *args, **options))
    assert thought is not None
    cache = thought.fixed - OVERHEAD - model.stat().st_size
    assert cache == pytest.approx(cache_of(model, *args, **options), abs=0.01 * 2**20)

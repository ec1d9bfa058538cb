"""A real engine, llama.cpp with a tiny model: asked bare, through this router, and as Xinference serves it."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click

from bench.figures import Engine
from bench.measure import Meter, Slow, run_load
from bench.ours import ROUTER
from bench.peers import ENGINE_NAME, pip_version
from bench.process import MEASURED, OTHER, Process, free_port, wait_for_port
from bench.target import Target, ask
from bench.tools import ROOT, TOOLS, Unavailable, environment

MODEL = ROOT / ".demo" / "chat.gguf"
SLOTS = 16
CONTEXT = 16384

XINFERENCE = "xinference==4.1.0"
TORCH = "torch==2.13.0"
"""An index with builds for CPUs alone may have just this one; Xinference itself takes any."""


@dataclass(frozen=True)
class Case:
    name: str
    flags: str
    quick: bool


# The last is how scripts ask, and their answers are short, so that what stands before the engine is what is measured.
CASES = tuple(
    Case(
        f"{answer}, {'streamed' if stream else 'whole'}, {at_once} at once",
        f"-size 0 -tokens {tokens} -connections {at_once} -time {seconds}s" + (" -stream -events 0" if stream else ""),
        quick=at_once > 1,
    )
    for answer, tokens, seconds in (("short", 16, 2), ("long", 256, 3))
    for stream in (False, True)
    for at_once in (1, 16)
) + tuple(
    Case(
        f"4 tokens, a connection each, {at_once} at once",
        f"-size 0 -tokens 4 -fresh -connections {at_once} -time 3s",
        quick=at_once > 1,
    )
    for at_once in (1, 16)
)


def play(program: Path, cases: Sequence[Case], rounds: int, *, xinference: bool) -> Iterator[Engine]:
    """Raises Unavailable where there is no engine."""
    with ExitStack() as stack:
        targets = {"bare": _bare(stack)}
        router = Target.start(ROUTER, ROUTER.install(), int(targets["bare"][1].rpartition(":")[2]))
        stack.callback(router.end)
        targets["router"] = router.flags(embeddings=False)
        if xinference:
            targets |= _xinference(stack)
        for number in range(rounds):
            for case in cases:
                for name, flags in targets.items():
                    engine = _run(program, case, name, [*case.flags.split(), *flags], number)
                    click.echo(_line(engine), err=True)
                    yield engine


def _run(program: Path, case: Case, name: str, flags: Sequence[str], number: int) -> Engine:
    engine = Engine(case.name, name, number)
    try:
        # The engine has the other core for itself.
        engine.load = run_load(program, list(flags), 60, Meter(None), core=MEASURED)
    except Slow as error:
        engine.fault = str(error)
    if engine.load and engine.load.errors:
        engine.fault = f"errors: {engine.load.errors}"[:300]
    return engine


def _bare(stack: ExitStack) -> list[str]:
    if not MODEL.exists():
        raise Unavailable("there is no tiny model: `make demo`")
    port = free_port()
    server = [sys.executable, "-I", "-u", str(ROOT / "launchers" / "xllamacpp_server.py")]
    server += ["--model", str(MODEL), "--alias", ENGINE_NAME, "--port", str(port), "--no-webui"]
    server += ["--parallel", str(SLOTS), "--ctx-size", str(CONTEXT), "--threads", "1", "--threads-http", "64"]
    stack.enter_context(Process(server, OTHER, TOOLS / "engine.log"))
    wait_for_port(port, 30)
    deadline = time.monotonic() + 30
    while ask(port, "GET", "/health")[0] != 200:  # it listens before the model is loaded
        if time.monotonic() > deadline:
            raise Unavailable("the engine does not start: .bench/engine.log")
        time.sleep(0.05)
    return ["-address", f"127.0.0.1:{port}", "-model", ENGINE_NAME]


def install_xinference() -> Path:
    return environment("xinference", XINFERENCE, "xllamacpp==2026.10.11549", constraint=TORCH) / "xinference-local"


def versions(*, xinference: bool) -> dict[str, str]:
    found = {"llama.cpp (xllamacpp)": version("xllamacpp")}
    if xinference:
        program = install_xinference()
        found |= {"Xinference": pip_version("xinference")(program), "its xllamacpp": pip_version("xllamacpp")(program)}
    return found


def _xinference(stack: ExitStack) -> dict[str, list[str]]:
    """Two of its models, as it launches one by itself and with the bare engine's slots; it may use both cores."""
    port = free_port()
    home = TOOLS / "xinference-home"
    home.mkdir(exist_ok=True)
    env = {"XINFERENCE_AUTH_ADVANCED": "0", "XINFERENCE_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    command = [str(install_xinference()), "--host", "127.0.0.1", "--port", str(port)]
    process = stack.enter_context(Process(command, None, TOOLS / "xinference.log", env))
    try:
        wait_for_port(port, 120)
        _register_in_xinference(port, process)
        for uid, options in (("tiny", {}), ("tiny-16", {"n_parallel": SLOTS, "n_threads": 1})):
            _post(port, process, "/v1/models", LAUNCH | {"model_uid": uid} | options)
    except TimeoutError as error:
        raise Unavailable(f"xinference does not start: {error}") from error
    flags = ["-address", f"127.0.0.1:{port}", "-model"]
    return {"xinference": [*flags, "tiny"], "xinference, 16 slots": [*flags, "tiny-16"]}


SPEC = {"model_format": "ggufv2", "model_size_in_billions": 1, "quantization": "none"}
LAUNCH = {"model_name": "tiny", "model_engine": "llama.cpp", "enable_virtual_env": False} | SPEC


def _register_in_xinference(port: int, process: Process) -> None:
    files = {"model_id": None, "model_uri": str(MODEL.parent), "model_file_name_template": MODEL.name}
    family = {
        "version": 2,
        "context_length": CONTEXT,
        "model_name": "tiny",
        "model_lang": ["en"],
        "model_ability": ["chat"],
        "model_family": "tiny",
        "model_specs": [SPEC | files],
        "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
        "stop_token_ids": [],
        "stop": [],
    }
    body = {"model": json.dumps(family), "persist": False}
    _post(port, process, "/v1/model_registrations/LLM", body)


def _post(port: int, process: Process, path: str, body: object) -> None:
    deadline = time.monotonic() + 120
    while True:
        status, text = ask(port, "POST", path, body)
        if status == 200:
            return
        if process.ended or time.monotonic() > deadline:
            raise Unavailable(f"xinference: {path} is answered with {status}: {text[:300]!r}")
        time.sleep(1)  # its parts are not up yet


def _line(engine: Engine) -> str:
    start = f"round {engine.round + 1}  {engine.case:28} {engine.target:12}"
    if engine.load is None or engine.load.latency is None:
        return f"{start} {engine.fault}"
    latency = engine.load.latency
    speed = engine.load.requests / engine.load.seconds
    return f"{start} {speed:8.1f} requests/s  {latency.p50 / 1e3:.2f}/{latency.p99 / 1e3:.2f} ms  {engine.fault}"

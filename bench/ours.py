"""The router under test, as a user runs it: `router up -c FILE`, with keys, metrics and the access record on."""

import sys
from collections.abc import Callable
from pathlib import Path

from bench.peers import ENGINE_NAME, KEY, Command, Peer
from bench.process import OTHER, pinned
from bench.tools import ROOT, load_program, output

HEAD = """\
listen: 127.0.0.1:{port}
state_dir: {folder}/state
keys:
  - {{name: bench, key: "${{BENCH_KEY}}"}}
models:
"""

# The request asks by an alias, the engine knows a third name: `model` is rewritten in both directions.
MODELS = """\
  qwen: {{url: "http://127.0.0.1:{engine}/v1", upstream_model: real-model, aliases: [gpt-4o-mini]}}
  embed: {{url: "http://127.0.0.1:{engine}/v1", upstream_model: real-model, kind: embedding, aliases: [ada]}}
"""

MORE = '  other-{i}: {{url: "http://127.0.0.1:{engine}/v1", upstream_model: real-model, aliases: [alias-{i}]}}\n'

REPLICAS = """\
  qwen:
    engine: command
    replicas: {replicas}
    aliases: [gpt-4o-mini]
    options: {{argv: {argv}, served_name: real-model, keep_alive: 60}}
"""

Models = Callable[[int], str]
"""From the port of the stub to the models of the file."""


def catalogue(size: int) -> Models:
    return lambda engine: (
        MODELS.format(engine=engine) + "".join(MORE.format(i=i, engine=engine) for i in range(size - 1))
    )


def own_stubs(count: int) -> Models:
    """The router starts the stubs itself; they pin themselves to the other core."""
    stub = ["env", "GOMAXPROCS=1", str(load_program()), "stub", "-inputs", "1", "-listen", "127.0.0.1:${PORT}"]
    argv = "[" + ", ".join(f'"{word}"' for word in pinned(OTHER, stub)) + "]"
    return lambda _: REPLICAS.format(replicas=count, argv=argv)


def router(name: str, models: Models, about: str = "", *, replicas: int = 0) -> Peer:
    def command(program: Path, folder: Path, port: int, engine: int) -> Command:
        file = folder / "router.yaml"
        file.write_text(HEAD.format(port=port, folder=folder) + models(engine))
        return Command([str(program), "up", "-c", str(file)], {"BENCH_KEY": KEY})

    return Peer(
        name=name,
        install=lambda: Path(sys.executable).with_name("router"),
        version=lambda _: version(),
        command=command,
        about=about,
        asks=("gpt-4o-mini", "ada"),
        expects=("qwen,gpt-4o-mini", "embed,ada"),
        key=KEY,
        alone=replicas > 0,  # the stubs are its children then
        replicas=replicas,
    )


def version() -> str:
    commit = output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    changed = output("git", "-C", str(ROOT), "status", "--porcelain", "--", "router", "launchers")
    number = output(sys.executable, "-c", "import router; print(router.__version__)")
    return f"{number}, commit {commit}{' and changes' if changed else ''}"


ROUTER = router(
    "router",
    catalogue(1),
    f"`router up -c FILE`: keys, metrics and access record on; asked by an alias, answers by its public name, "
    f"asks the engine for `{ENGINE_NAME}`",
)
VARIANTS: dict[str, Callable[[], Peer]] = {
    "1 model": lambda: router("1 model", catalogue(1)),
    "1,000 models": lambda: router("1,000 models", catalogue(1000)),
    "1 replica": lambda: router("1 replica", own_stubs(1), replicas=1),
    "64 replicas": lambda: router("64 replicas", own_stubs(64), replicas=64),
}

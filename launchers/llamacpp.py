"""llama.cpp: GGUF models on CPUs and GPUs, in three forms that take the same options.

- `server`: the real `llama-server` program;
- `xllamacpp`: the same HTTP server out of the `xllamacpp` wheel, started by `xllamacpp_server.py`;
- `python`: `llama_cpp.server` of llama-cpp-python, which serves one request at a time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from launchers import llamacpp_python, llamacpp_server, programs
from launchers.base import Command, Kind, Launch, Program, Recipe
from launchers.llamacpp_options import LlamaCppOptions

_FORMS: Mapping[str, Callable[[Path], Program | None]] = {
    "server": llamacpp_server.program_in,
    "xllamacpp": llamacpp_server.wrapper_in,
    "python": llamacpp_python.program_in,
}
_COMPILED = "-DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TESTS=OFF"


class LlamaCpp:
    """Only the form `server` takes the id of a repository on Hugging Face as its `model`
    (`Qwen/Qwen3-8B-GGUF:Q4_K_M`, with `options: {form: server}`). The others, `xllamacpp` among them, take the path of
    a `.gguf` file, or of the folder that it is in: see [models.md](../models.md).

    Its LoRA adapters are not below `lora:`. Their files are an option, and an alias makes each a public name:

    ```yaml
    models:
      my-chat:
        engine: llamacpp
        model: ./models/model.gguf
        options: {lora: [/data/poet.gguf], lora_on_request: true}
        aliases:
          my-poet: {set: {lora: [{id: 0, scale: 1}]}} # id counts the files from 0
    ```
    """

    name = "llamacpp"
    summary = "llama.cpp: GGUF models on CPUs and GPUs"
    Options: type[msgspec.Struct] = LlamaCppOptions
    kinds: tuple[Kind, ...] = llamacpp_server.KINDS
    default_kind: Kind = "chat"
    recipes: Mapping[str, Recipe] = {
        "xllamacpp": Recipe(lock="llamacpp.lock", check="lib/python3*/site-packages/xllamacpp"),
        "python": Recipe(
            lock="llamacpp-python.lock",
            check="lib/python3*/site-packages/llama_cpp",
            build=("llama_cpp_python",),
            env={"CMAKE_ARGS": f"{_COMPILED} -DLLAVA_BUILD=OFF"},
        ),
        "server": Recipe(
            lock="llamacpp-server.lock",
            check="bin/llama-server",
            build=("llama-server",),
            script="build_llama_server.py",
        ),
    }

    def find(self, places: Sequence[Path], options: LlamaCppOptions) -> Program | None:
        """In each place the forms are tried in their order; then PATH, then the environment that runs the router."""
        return next(_found(places, options.form), None)

    def command(self, launch: Launch) -> Command:
        if launch.program.form == "python":
            return llamacpp_python.command(launch)
        return llamacpp_server.command(launch)


def _found(places: Sequence[Path], form: str) -> Iterator[Program]:
    wanted = _FORMS if form == "auto" else {form: _FORMS[form]}
    for place in (*places, *_last_resorts()):
        for look in wanted.values():
            program = look(place)
            if program:
                yield program


def _last_resorts() -> Iterator[Path]:
    on_path = programs.on_path("llama-server")
    if on_path:
        yield on_path
    yield programs.own_interpreter()

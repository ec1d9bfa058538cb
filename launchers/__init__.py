"""The engines that the router can start, one launcher each. A new one is a file, a line here, a table of tests."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module

from launchers.base import Launcher

_CLASSES = {
    "vllm": "Vllm",
    "llamacpp": "LlamaCpp",
    "infinity": "Infinity",
    "sglang": "Sglang",
    "lmdeploy": "Lmdeploy",
    "trtllm": "Trtllm",
    "mlx": "Mlx",
    "ollama": "Ollama",
    "speaches": "Speaches",
    "tei": "Tei",
    "transformers": "Transformers",
    "command": "CommandLauncher",
}
"""The class of each, in the module of the engine's name."""


class Launchers(Mapping[str, Launcher]):
    """By engine. One is imported when it is asked for: a file names two or three of a dozen."""

    def __getitem__(self, engine: str) -> Launcher:
        return _made(engine)

    def __contains__(self, engine: object) -> bool:
        return engine in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


@cache
def _made(engine: str) -> Launcher:
    """Raises KeyError."""
    name = _CLASSES[engine]
    made: Launcher = getattr(import_module(f"launchers.{engine}"), name)()
    return made


LAUNCHERS: Mapping[str, Launcher] = Launchers()

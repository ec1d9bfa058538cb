"""Writes the flags of an engine's own parser as a table, one a line: the flag, how many values it takes, its choices.

`PYTHONPATH=SOURCES python write.py sglang 0.5.23 > sglang.txt`, where SOURCES is the unpacked wheel of the engine. What
an engine imports besides is replaced by stand-ins where it is not installed, so that no CUDA is needed; an environment
with torch and transformers (that of vLLM) has enough. Parsers that cannot be imported even so are read: a third
argument names the file (`commands/serve.py` of TensorRT-LLM, `server_args.py` of SGLang's diffusion server).
"""

import argparse
import ast
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

# Looked for by libraries that do without them.
OPTIONAL = {"h2", "socksio", "brotli", "brotlicffi", "zstandard", "trio", "flax", "tensorflow", "jax", "accelerate"}
OPTIONAL |= {"peft", "flint", "gmpy2", "torchvision", "torchaudio", "librosa", "av", "decord", "cv2", "scipy"}
OPTIONAL |= {"sklearn", "pandas", "matplotlib"}


class StandIn(ModuleType):
    """A module that has every name: classes for those with a capital letter, else things that can be called."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        anything = {"__init__": lambda *_, **__: None, "__call__": lambda *_, **__: MagicMock()}
        made = type(name, (), anything | {"__getattr__": lambda *_: MagicMock()}) if name[0].isupper() else MagicMock()
        setattr(self, name, made)
        return made


class StandIns(MetaPathFinder, Loader):
    """Comes last: only what nobody else has found is replaced, and never a part of what is there."""

    def __init__(self, engine: str) -> None:
        self.real = OPTIONAL | {engine} | set(sys.stdlib_module_names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        top = name.partition(".")[0]
        replaced = top not in self.real and ("." not in name or isinstance(sys.modules.get(top), StandIn))
        return ModuleSpec(name, self, is_package=True) if replaced else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def sglang() -> argparse.ArgumentParser:
    from sglang.srt.server_args import ServerArgs  # noqa: PLC0415

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return parser


def lmdeploy() -> argparse.ArgumentParser:
    from lmdeploy.cli.serve import SubCliServe  # noqa: PLC0415

    SubCliServe.add_parsers()
    parser = SubCliServe.subparsers.choices["api_server"]
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def of_argparse(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        values = "1" if action.nargs is None else str(action.nargs)
        for flag in action.option_strings:
            if flag.startswith("--"):
                yield " ".join([flag, values, ",".join(str(choice) for choice in action.choices or ())]).strip()


def of_calls(source: Path, function: str) -> Iterator[str]:
    """Of the calls of `function` (`click.option`, `parser.add_argument`) in a file that cannot be imported."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function:
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            switch = "is_flag" in words or words.get("action", "").startswith(("'store_", "argparse.BooleanOptional"))
            values = "0" if switch else "?" if words.get("action") == "StoreBoolean" else "1"
            values = words.get("nargs", values).strip("'")
            for name in node.args:
                if isinstance(name, ast.Constant) and str(name.value).startswith("--"):
                    yield f"{name.value} {values}"


def main(arguments: Sequence[str]) -> None:
    engine, version, *source = arguments
    sys.meta_path.append(StandIns(engine))
    if source:
        function = "click.option" if engine == "trtllm" else "parser.add_argument"
        lines = list(of_calls(Path(source[0]), function))
    else:
        lines = list(of_argparse({"sglang": sglang, "lmdeploy": lmdeploy}[engine]()))
    sys.stdout.write("\n".join([f"# {engine} {version}", *sorted(set(lines))]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

"""The models: their engines' programs, their files, and the servers elsewhere."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from router.config import Config, EngineSpec
from router.doctor.check import Check, fault, ok, size, warning
from router.doctor.encoders import check_encoder
from router.doctor.remotes import check_remote
from router.doctor.tokens import check_tokens
from router.downloads.asked import Asked, asked
from router.downloads.held import cache_of, missing

GGUF = b"GGUF"
POINTER = b"version https://git-lfs"
"""How the file begins that git-lfs leaves in place of a large one."""
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.onnx", "*.pt")
INDEX = "model.safetensors.index.json"
_AGAIN = "download the model again, whole (`git lfs pull` where it is a clone)"


def check_models(config: Config) -> Iterator[Check]:
    for spec in config.models:
        if isinstance(spec, EngineSpec):
            yield check_program(spec)
            yield check_model(spec)
            yield from filter(None, (check_encoder(spec),))
        else:
            yield check_remote(spec)
        yield from filter(None, (check_tokens(spec),))


def check_program(spec: EngineSpec) -> Check:
    """The file was found when the router's own was read. A script's interpreter may have gone since."""
    program = Path(spec.program.argv[0])
    again = f"install it anew: `router install {spec.engine}`" if spec.engine != "command" else "correct `options.argv`"
    if not os.access(program, os.X_OK):
        return fault(f"{spec.engine}: {program} cannot be run", again)
    interpreter = _interpreter(program)
    if interpreter and not interpreter.exists():
        return fault(f"{spec.engine}: {program} needs {interpreter}, which is gone", again)
    return ok(f"{spec.engine}: {program}")


def _interpreter(program: Path) -> Path | None:
    """What its first line names, if it is a script."""
    try:
        with program.open("rb") as file:
            line = file.readline(512)
    except OSError:
        return None
    words = line[2:].split() if line.startswith(b"#!") else []
    return Path(os.fsdecode(words[0])) if words else None


def check_model(spec: EngineSpec) -> Check:
    wish, source = asked(spec), spec.source
    if wish is not None:
        return _check_hub(spec, wish)
    if not source.value or source.where == "library":
        return ok(f"{spec.name}: its program knows the model")
    try:
        problem, count = (
            _check_file(Path(source.value)) if source.where == "file" else _check_folder(Path(source.value))
        )
    except OSError as error:
        return fault(f"{spec.name}: {error.filename}: {error.strerror}", "let the user of the router read it")
    if problem:
        return fault(f"{spec.name}: {problem}", _AGAIN)
    return ok(f"{spec.name}: {source.value} ({size(count)})")


def _check_hub(spec: EngineSpec, wish: Asked) -> Check:
    if not missing(spec):
        return ok(f"{spec.name}: {spec.source.value} is in {cache_of(wish)}")
    what = f"{spec.name}: {spec.source.value} is not, or not wholly, in {cache_of(wish)}"
    pull = f"`router pull {spec.name}`"
    if wish.env.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return fault(f"{what}, and HF_HUB_OFFLINE forbids to download it", f"take that out of `env` for {pull}")
    return warning(what, f"its engine downloads it at the start; {pull} does so before")


def _check_file(file: Path) -> tuple[str, int]:
    """What is wrong with it, and its size. Raises OSError."""
    with file.open("rb") as opened:
        begin = opened.read(len(POINTER))
    if begin == POINTER:
        return f"{file} is a pointer of git-lfs, not the file itself", 0
    if file.suffix == ".gguf" and not begin.startswith(GGUF):
        return f"{file} is no GGUF file", 0
    return "", file.stat().st_size


def _check_folder(folder: Path) -> tuple[str, int]:
    """What is wrong with it, and the size of its weights. Raises OSError."""
    files = [file for pattern in WEIGHTS for file in folder.glob(pattern)]
    if not files:
        return f"{folder} holds no weights", 0
    gone = sorted(_declared(folder) - {file.name for file in files})
    if gone:
        return f"{folder} lacks {gone[0]}" + (f" and {len(gone) - 1} more" if gone[1:] else ""), 0
    found = [_check_file(file) for file in files]
    return next((problem for problem, _ in found if problem), ""), sum(count for _, count in found)


def _declared(folder: Path) -> set[str]:
    """The files over which the weights are spread, as the index says; none where there is none that can be read."""
    try:
        index: Any = json.loads((folder / INDEX).read_bytes())
        return set(map(str, index["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()

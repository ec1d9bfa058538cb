"""Which files of a repository an engine reads. Pure: paths in, paths out."""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from router.config import EngineSpec
from router.downloads.asked import flag

SAFETENSORS, TORCH, GGUF, OTHERS = range(4)
_FORMS = {
    ".safetensors": SAFETENSORS,
    **dict.fromkeys((".bin", ".pt", ".pth"), TORCH),
    ".gguf": GGUF,
    **dict.fromkeys((".onnx", ".onnx_data", ".h5", ".msgpack", ".ot", ".tflite", ".mlmodel", ".ckpt"), OTHERS),
}
"""The forms in which repositories keep the same weights beside each other, the one that engines take first."""
_COPIES = {"onnx", "openvino", "coreml", "original", "metal"}
"""Folders with the same weights once more, for other programs."""
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_NO_MODEL = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
"""In the names of GGUF files that go with a model."""
_PREFERRED = ("Q4_K_M", "Q8_0")
"""What llama.cpp takes of a repository without being told."""


def needed(spec: EngineSpec, paths: Sequence[str]) -> list[str]:
    """Those of `paths` that are to be downloaded. Empty if the repository lacks what `spec` asks for."""
    tag = spec.source.value.partition(":")[2]
    if spec.engine == "llamacpp":
        file = flag(spec.args, "--hf-file", "-hff")
        model = _shards(paths, file) if file else gguf(paths, tag)
        return [*model, *_projector(paths, model[0])] if model and _wants_projector(spec) else model
    if tag or min(map(form, filter(is_weights, paths)), default=OTHERS) == GGUF:
        model = gguf(paths, tag)
        return [*model, *(path for path in paths if not is_weights(path))] if model else []
    if getattr(spec.options, "engine", None) == "optimum":  # infinity on ONNX
        return [path for path in paths if not is_weights(path) or form(path) == OTHERS]
    return _without_doubles(spec, paths)


def is_weights(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in _FORMS


def form(path: str) -> int:
    """Of a file for which `is_weights` holds."""
    return _FORMS[PurePosixPath(path).suffix.lower()]


def quantisations(paths: Iterable[str]) -> list[str]:
    """The GGUF models of a repository, by their file names."""
    return [path for path in paths if _is_model(path) and _is_first(path)]


def gguf(paths: Sequence[str], tag: str) -> list[str]:
    """The file that llama.cpp's `-hf` takes for `tag`, all its shards; empty if there is none."""
    models = quantisations(paths)
    for each in (tag,) if tag else _PREFERRED:
        pattern = re.compile(re.escape(each) + "[.-]", re.IGNORECASE)
        if found := next(filter(pattern.search, models), None):
            return _shards(paths, found)
    return _shards(paths, models[0]) if models and not tag else []


def lacks_shards(model: Sequence[str]) -> bool:
    """Whether what `gguf` gave is less than its own names promise."""
    shard = _SHARD.search(model[0])
    return shard is not None and len(model) != int(shard[2])


def _is_model(path: str) -> bool:
    name = PurePosixPath(path).name
    return name.endswith(".gguf") and not any(word in name for word in _NO_MODEL)


def _is_first(path: str) -> bool:
    shard = _SHARD.search(path)
    return shard is None or int(shard[1]) == 1


def _shards(paths: Sequence[str], first: str) -> list[str]:
    stem = _SHARD.sub("", first)
    return [path for path in paths if path == first or (stem != first and _SHARD.sub("", path) == stem)]


def _wants_projector(spec: EngineSpec) -> bool:
    """As llama-server decides it; the python form never asks for one."""
    own = {word.partition("=")[0] for word in spec.args} & {"--mmproj", "-mm", "--mmproj-url", "-mmu"}
    off = {"--no-mmproj", "--no-mmproj-auto"} & set(spec.args)
    return spec.program.form == "server" and not own and not off and getattr(spec.options, "mmproj", None) is None


def _projector(paths: Sequence[str], model: str) -> list[str]:
    """The one nearest to the model: in the deepest folder above it, with the most similar number of bits."""
    home = PurePosixPath(model).parent
    near = [path for path in paths if path.endswith(".gguf") and "mmproj" in path]
    near = [path for path in near if home.is_relative_to(PurePosixPath(path).parent)]
    bits = _bits(model)
    near.sort(key=lambda path: (-len(PurePosixPath(path).parts), abs(_bits(path) - bits)))
    return near[:1]


def _bits(path: str) -> int:
    """`…-Q4_K_M.gguf` as 4, `…-F16.gguf` as 16; 0 where the name does not say."""
    found = re.search(r"\d+", re.split(r"[-.]", _SHARD.sub(".gguf", path))[-2])
    return int(found[0]) if found else 0


def _without_doubles(spec: EngineSpec, paths: Sequence[str]) -> list[str]:
    """Each folder's weights in one form only; other programs' forms only where there is nothing else."""
    weights = [path for path in paths if is_weights(path)]
    best = min(map(form, weights), default=OTHERS)
    if best > TORCH:
        return list(paths)
    first: dict[PurePosixPath, int] = {}
    for path in weights:
        folder = PurePosixPath(path).parent
        first[folder] = min(first.get(folder, TORCH), form(path))
    unused = {path for path in weights if form(path) != first[PurePosixPath(path).parent]}
    unused.update(path for path in paths if PurePosixPath(path).parts[0] in _COPIES)
    unused.update(_unused_mistral(spec, paths))
    return [path for path in paths if path not in unused]


def _unused_mistral(spec: EngineSpec, paths: Sequence[str]) -> list[str]:
    """Mistral's repositories have the weights twice. vLLM takes the consolidated ones by itself, others never do."""
    consolidated = [path for path in paths if path.startswith("consolidated") and path.endswith(".safetensors")]
    sharded = [path for path in paths if path.startswith("model") and path.endswith(".safetensors")]
    if not consolidated or not sharded:
        return []
    takes_them = spec.engine == "vllm" and getattr(spec.options, "load_format", None) in (None, "auto", "mistral")
    return sharded if takes_them else consolidated

"""How large a model's weights are, from the files that are on this machine."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from launchers.base import Source

INDEX = "model.safetensors.index.json"
LARGEST_INDEX = 64 * 2**20
"""Bytes; that of a model with a hundred thousand tensors has ten million."""
_SHARD = re.compile(r"-\d{5}(-of-\d{5}\.gguf)$")


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def of_gguf(file: Path) -> int:
    """Bytes of a GGUF file and, if it is the first of several, of the others. Raises OSError."""
    shard = _SHARD.search(file.name)
    if shard is None:
        return file.stat().st_size
    stem, rest = file.name[: shard.start()], shard[1]
    return sum(found.stat().st_size for found in file.parent.iterdir() if _is_shard(found.name, stem, rest))


def _is_shard(name: str, stem: str, rest: str) -> bool:
    return re.fullmatch(rf"{re.escape(stem)}-\d{{5}}{re.escape(rest)}", name) is not None


def of_folder(folder: Path) -> int | None:
    """Bytes of the weights in a Hugging Face folder, whichever of their forms an engine would load; None if there are
    none. Raises OSError."""
    indexed = _indexed(folder)
    if indexed:
        return sum((folder / name).stat().st_size for name in indexed)
    for pattern in ("model*.safetensors", "*.safetensors", "pytorch_model*.bin"):
        files = list(folder.glob(pattern))
        if files:
            return sum(file.stat().st_size for file in files)
    return None


def _indexed(folder: Path) -> set[str]:
    """The files that the index names, which are not always all there are: some folders hold the weights twice."""
    index = folder / INDEX
    if not index.is_file() or index.stat().st_size > LARGEST_INDEX:
        return set()
    try:
        names = set(msgspec.json.decode(index.read_bytes(), type=_Index).weight_map.values())
    except (msgspec.DecodeError, RecursionError):
        return set()
    return names if all(Path(name).name == name and (folder / name).is_file() for name in names) else set()


def folder_of(source: Source, environment: Mapping[str, str]) -> Path | None:
    """Where a source's files are: its own folder, or what Hugging Face's cache has of its main branch. None if they
    are not here. `environment` is the engine's."""
    if source.where == "folder":
        return Path(source.value)
    if source.where != "hub":
        return None
    repository = _cache(environment) / f"models--{source.value.replace('/', '--')}"
    try:
        commit = (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    snapshot = repository / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _cache(environment: Mapping[str, str]) -> Path:
    """As huggingface_hub finds it."""
    if named := environment.get("HF_HUB_CACHE"):
        return Path(named).expanduser()
    if home := environment.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"

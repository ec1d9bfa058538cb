"""What the caches of the ecosystem hold already, found by their paths alone: nothing is asked, nothing imported."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from router.config import EngineSpec
from router.downloads.asked import Asked, asked
from router.downloads.needed import SAFETENSORS, form, gguf, is_weights, lacks_shards, needed

_COMMIT = re.compile(r"[0-9a-f]{40}")


class _Index(msgspec.Struct):
    """`….index.json` beside split weights: which file holds each tensor."""

    weight_map: dict[str, str]


def missing(spec: EngineSpec) -> bool:
    """Whether the engine would have to download, or go on with downloading, before it can load."""
    wish = asked(spec)
    try:
        return wish is not None and not _is_complete(spec, wish)
    except (OSError, msgspec.DecodeError, RecursionError):
        return False  # what cannot be read here is the engine's to complain of


def _is_complete(spec: EngineSpec, wish: Asked) -> bool:
    folder = snapshot(wish)
    if folder is None:
        return False
    here = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    wanted = needed(spec, here)
    weights = [path for path in wanted if is_weights(path)]
    if not weights:
        return False
    model = gguf(weights, wish.tag)
    return not lacks_shards(model) if model else set(_declared(folder, weights)) <= set(here)


def snapshot(wish: Asked) -> Path | None:
    """The folder with the files of the wanted revision, as the last download left it."""
    return _hub_snapshot(wish) if wish.where == "hub" else _modelscope_snapshot(wish)


def hub_cache(env: Mapping[str, str]) -> Path:
    """As huggingface_hub finds it."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return _expanded(env[name])
    home = env.get("HF_HOME") or f"{env.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return _expanded(home) / "hub"


def modelscope_cache(env: Mapping[str, str]) -> Path:
    """As modelscope finds it."""
    return _expanded(env.get("MODELSCOPE_CACHE") or "~/.cache/modelscope")


def cache_of(wish: Asked) -> Path:
    if wish.cache:
        return _expanded(wish.cache)
    return hub_cache(wish.env) if wish.where == "hub" else modelscope_cache(wish.env)


def _expanded(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _hub_snapshot(wish: Asked) -> Path | None:
    repository = cache_of(wish) / f"models--{wish.id.replace('/', '--')}"
    commit = wish.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (repository / "refs" / commit).read_text().strip()
        except OSError:
            return None
    folder = repository / "snapshots" / commit
    return folder if folder.is_dir() else None


def _modelscope_snapshot(wish: Asked) -> Path | None:
    """Where modelscope keeps it now, or kept it before version 1.38, which it still reads."""
    cache, (owner, name) = cache_of(wish), wish.id.split("/")
    old = name.replace(".", "___")
    places = (
        cache / "models" / owner / old,
        cache / "hub/models" / owner / old,
        cache / "models" / f"{owner}--{name}" / "snapshots" / wish.revision,
    )
    return next((place for place in places if place.is_dir() and any(place.iterdir())), None)


def _declared(folder: Path, weights: list[str]) -> list[str]:
    """The files that the index of split weights names; none where they are not split."""
    torch = min(map(form, weights)) != SAFETENSORS
    pattern = "pytorch_model*.bin.index.json" if torch else "*.safetensors.index.json"
    consolidated = any(path.startswith("consolidated") for path in weights)
    found: set[str] = set()
    for index in folder.glob(pattern):
        if torch or index.name.startswith("consolidated") == consolidated:
            found.update(msgspec.json.decode(index.read_bytes(), type=_Index).weight_map.values())
    return sorted(found)

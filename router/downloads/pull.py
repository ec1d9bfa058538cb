"""One model's download: look, choose, see that the disk has room, fetch."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
from rich.filesize import decimal

from router.config import EngineSpec
from router.downloads.asked import Asked, asked
from router.downloads.hub import Hub, PullFailed
from router.downloads.needed import is_weights, needed, quantisations

_LIBRARIES = {
    "hub": ("huggingface_hub", "huggingface_hub>=2.4"),
    "modelscope": ("modelscope_hub", "modelscope-hub>=0.5"),
}
"""The modules, and the extras `pull` and `modelscope` of this project."""
_LONGEST = 6
"""Names in a fault's list."""


class Pulled(msgspec.Struct, frozen=True):
    """`fetched` bytes of `size` were not there before."""

    folder: Path
    size: int
    fetched: int


class Watch(Protocol):
    """Follows a download."""

    def begin(self, hub: str, size: int, held: int) -> None:
        """Bytes in all, and those that are there."""

    def come(self, count: int) -> None:
        """More bytes; called from any thread."""


def room(folder: Path) -> int:
    """Free bytes of the disk that `folder` is on, or would be."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def pull(spec: EngineSpec, watch: Watch, free: Callable[[Path], int] = room) -> Pulled:
    """Downloads what the engine of `spec` will read. Raises PullFailed."""
    wish = asked(spec)
    if wish is None:
        raise PullFailed("has no source on a hub")
    hub = _hub(wish)
    listing = hub.look()
    chosen = set(needed(spec, [file.path for file in listing.files]))
    if not any(is_weights(path) for path in chosen):
        raise PullFailed(_without(wish, [file.path for file in listing.files]))
    files = [file for file in listing.files if file.path in chosen]
    size, held = sum(file.size for file in files), sum(file.held for file in files)
    _see_room(hub.cache, size - held, free)
    watch.begin(hub.name, size, held)
    return Pulled(hub.fetch(listing.commit, files, watch.come), size, size - held)


def _see_room(cache: Path, lacking: int, free: Callable[[Path], int]) -> None:
    there = free(cache)
    if there < lacking:
        raise PullFailed(
            f"no room in {cache}: {decimal(lacking)} to download, {decimal(there)} free, {decimal(lacking - there)} "
            "too little; make room, or set HF_HOME (MODELSCOPE_CACHE for ModelScope) to a folder on a larger disk"
        )


def _without(wish: Asked, paths: list[str]) -> str:
    models = quantisations(paths)
    if not wish.tag or not models:
        return f"{wish.id} has no weights that this engine reads; check the id"
    more = ", …" if len(models) > _LONGEST else ""
    return f"{wish.id} has no GGUF file for {wish.tag}; it has {', '.join(models[:_LONGEST])}{more}"


def _hub(wish: Asked) -> Hub:
    """Imported here: the base install is without these libraries, and the other commands without their weight."""
    os.environ["TQDM_DISABLE"] = "1"  # modelscope's own bars, which it offers no other way to turn off; read at import
    try:
        if wish.where == "modelscope":
            from router.downloads.model_scope import ModelScope  # noqa: PLC0415

            return ModelScope(wish)
        from router.downloads.hugging_face import HuggingFace  # noqa: PLC0415

        return HuggingFace(wish)
    except ModuleNotFoundError as error:
        module, package = _LIBRARIES[wish.where]
        if error.name != module:
            raise
        command = shlex.join([sys.executable, "-m", "pip", "install", package])
        raise PullFailed(f"needs {module}: run `{command}`") from None

"""Which GGUF file a model's source means."""

import re
from pathlib import Path

from launchers.base import Refusal

_SHARD = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")


def file_of(folder: Path) -> Path:
    """The one model of a folder: its single `.gguf`, or the first shard of a split one. A projector is no model."""
    files = sorted(file for file in folder.glob("*.gguf") if not file.name.startswith("mmproj"))
    models = [file for file in files if _first(file.name)]
    if len(models) == 1:
        return models[0]
    problem = f"{folder} holds {', '.join(file.name for file in models)}" if models else f"{folder} holds no .gguf file"
    raise Refusal("model", problem, "give the path of the one .gguf file to serve")


def _first(name: str) -> bool:
    shard = _SHARD.search(name)
    return shard is None or shard[1] == "00001"

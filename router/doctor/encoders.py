"""GGUF files of encoders, which embed and rank and cannot chat."""

from pathlib import Path

from router.config import EngineSpec
from router.doctor.check import Check, fault
from router.fleet import gguf_header

ARCHITECTURES = frozenset(
    {
        "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
        "t5encoder", "gemma-embedding",
    }
)  # fmt: skip
"""By the names of llama.cpp, which keeps no cache for them and makes no text with them."""


def check_encoder(spec: EngineSpec) -> Check | None:
    """A fault where one is to chat. None otherwise, and where its file is not here or cannot be read."""
    file = _file(spec)
    if spec.kind != "chat" or file is None:
        return None
    try:
        architecture = gguf_header.describe(file).architecture
    except (OSError, gguf_header.NotReadable):
        return None
    if architecture not in ARCHITECTURES:
        return None
    return fault(f"{spec.name}: {file} ({architecture}) cannot chat", "add `kind: embedding` or `kind: rerank`")


def _file(spec: EngineSpec) -> Path | None:
    place = Path(spec.source.value)
    if spec.source.where == "folder":
        files = sorted(place.glob("*.gguf"))
        return next((file for file in files if not file.name.startswith("mmproj")), None)
    return place if spec.source.where == "file" and place.suffix == ".gguf" else None

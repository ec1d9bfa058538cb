"""What the small files of a Hugging Face folder say of a model."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

LARGEST = 16 * 2**20
"""Bytes; a tokenizer's settings may name a hundred thousand tokens."""
LONGEST = 2**31
"""No context is as long: tokenizers without a limit say 10^30."""
_CONTEXTS = (
    "max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len", "n_ctx",
    "model_max_length",
)  # fmt: skip
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
_FORMATS = frozenset({"awq", "gptq", "fp8", "bnb"})
_SAME = {"bitsandbytes": "bnb", "compressed-tensors": "pytorch"}


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """`templates`: all chat templates as one text; None where the folder does not say whether there is one."""

    format: str
    family: str | None
    quantization: str | None
    context: int | None
    text_limit: int | None
    """Tokens that its tokenizer cuts a text to."""
    dimensions: int | None
    templates: str | None
    vision: bool
    audio: bool


def read(folder: Path) -> Folder | None:
    """None where there is no model in it. A file that cannot be read counts as one that is not there."""
    config = _json(folder / "config.json")
    if not config:
        return None
    inner = config.get("text_config")
    text = {**config, **inner} if isinstance(inner, dict) else config
    method = _method(config)
    return Folder(
        format=method if method in _FORMATS else "pytorch",
        family=_word(config.get("model_type")),
        quantization=method,
        context=_first(text, _CONTEXTS),
        text_limit=_text_limit(folder),
        dimensions=_dimensions(folder) or _first(text, _WIDTHS),
        templates=_templates(folder),
        vision="vision_config" in config,
        audio="audio_config" in config,
    )


def _method(config: Mapping[str, Any]) -> str | None:
    given = config.get("quantization_config")
    method = _word(given.get("quant_method")) if isinstance(given, dict) else None
    return _SAME.get(method, method) if method else None


def _dimensions(folder: Path) -> int | None:
    """Sentence-transformers': the last of its modules that changes the width has the last word."""
    dense = [_count(_json(path).get("out_features")) for path in sorted(folder.glob("[0-9]_Dense/config.json"))]
    pooling = _count(_json(folder / "1_Pooling/config.json").get("word_embedding_dimension"))
    return next((width for width in reversed(dense) if width), pooling)


def _text_limit(folder: Path) -> int | None:
    limits = (
        _count(_json(folder / "sentence_bert_config.json").get("max_seq_length")),
        _count(_json(folder / "tokenizer_config.json").get("model_max_length")),
    )
    return min((limit for limit in limits if limit), default=None)


def _templates(folder: Path) -> str | None:
    config = _json(folder / "tokenizer_config.json")
    named = [config.get("chat_template"), _json(folder / "chat_template.json").get("chat_template")]
    files = [_text(path) for path in (folder / "chat_template.jinja", *folder.glob("chat_templates/*.jinja"))]
    found = [*files, *(text for given in named for text in _each(given))]
    if any(found):
        return "\n".join(filter(None, found))
    mistral = any(folder.glob("tekken*.json")) or any(folder.glob("tokenizer.model.v*"))
    return "" if config and not mistral else None  # Mistral's own tokenizers carry theirs in code


def _each(given: object) -> Iterable[str]:
    """One template, or several with names."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        return []
    return [text for one in given if isinstance(one, dict) and isinstance(text := one.get("template"), str)]


def _first(config: Mapping[str, Any], names: Iterable[str]) -> int | None:
    return next((count for name in names if (count := _count(config.get(name)))), None)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < LONGEST else None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _json(file: Path) -> dict[str, Any]:
    """Empty where there is no object to be read."""
    try:
        value = msgspec.json.decode(_text(file))
    except (msgspec.DecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(file: Path) -> str:
    """Empty where there is no text to be read."""
    try:
        if not file.is_file() or file.stat().st_size > LARGEST:
            return ""
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""

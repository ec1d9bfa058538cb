"""What the header of a GGUF file says, and what a file that lies costs."""

import os
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from router.fleet import gguf_header
from router.fleet.gguf_header import Attention, NotReadable, read

U8, U32, F32, BOOL, TEXT, LIST, U64 = 0, 4, 6, 7, 8, 9, 10


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key.encode()) + struct.pack("<I", kind) + value


def number(key: str, value: int) -> bytes:
    return entry(key, U32, struct.pack("<I", value))


def header(*entries: bytes, version: int = 3, count: int | None = None) -> bytes:
    return struct.pack("<4sIQQ", b"GGUF", version, 0, len(entries) if count is None else count) + b"".join(entries)


ARCHITECTURE = entry("general.architecture", TEXT, text(b"llama"))
PLAIN = (
    ARCHITECTURE,
    number("llama.block_count", 3),
    number("llama.attention.head_count", 8),
    number("llama.embedding_length", 64),
    number("llama.context_length", 4096),
)


def written(folder: Path, content: bytes) -> Path:
    file = folder / "m.gguf"
    file.write_bytes(content)
    return file


def by_the_library(file: Path, **numbers: Any) -> Path:
    """As llama.cpp's converters write it, vocabulary and weights included."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_block_count(numbers.get("layers", 4))
    writer.add_context_length(32768)
    writer.add_embedding_length(512)
    writer.add_head_count(16)
    writer.add_head_count_kv(numbers.get("heads", 2))
    if "key" in numbers:
        writer.add_key_length(numbers["key"])
        writer.add_value_length(numbers["value"])
    writer.add_token_list([f"token {number}" for number in range(1000)])
    writer.add_chat_template("x" * 100_000)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize(
    ("numbers", "attention"),
    [
        ({}, Attention((2,) * 4, 32, 32, 32768)),
        ({"key": 192, "value": 128}, Attention((2,) * 4, 192, 128, 32768)),
        ({"heads": [2, 0, 0, 8]}, Attention((2, 0, 0, 8), 32, 32, 32768)),
    ],
    ids=["plain", "heads of their own length", "layers without a cache"],
)
def test_a_file_of_the_gguf_library_is_understood(
    tmp_path: Path, numbers: dict[str, Any], attention: Attention
) -> None:
    assert read(by_the_library(tmp_path / "m.gguf", **numbers)) == attention


def test_without_kv_heads_of_their_own_all_heads_are(tmp_path: Path) -> None:
    assert read(written(tmp_path, header(*PLAIN))) == Attention((8, 8, 8), 8, 8, 4096)


def test_an_encoder_keeps_no_cache(tmp_path: Path) -> None:
    causal = entry("llama.attention.causal", BOOL, b"\0")
    assert read(written(tmp_path, header(*PLAIN, causal))).heads == (0, 0, 0)


def test_a_vocabulary_before_the_rest_is_passed_over(tmp_path: Path) -> None:
    tokens = entry("tokenizer.ggml.tokens", LIST, struct.pack("<IQ", TEXT, 2) + text(b"a") + text(b"bc"))
    scores = entry("tokenizer.ggml.scores", LIST, struct.pack("<IQ2f", F32, 2, 0.5, 0.25))
    template = entry("tokenizer.chat_template", TEXT, text(b"x" * 5000))
    assert read(written(tmp_path, header(tokens, scores, template, *PLAIN))).layers == 3


def test_nothing_is_read_behind_the_numbers(tmp_path: Path) -> None:
    """The vocabulary is most of a header."""
    tokens = text(b"tokenizer.ggml.tokens") + b"cut off"
    assert read(written(tmp_path, header(*PLAIN, tokens))).layers == 3


HUGE = struct.pack("<Q", 2**63)
LARGE = struct.pack("<Q", 2**46)
LIES = {
    "nothing": b"",
    "another format": b"PK\3\4" + bytes(100),
    "a version to come": header(*PLAIN, version=4),
    "the other byte order": struct.pack(">4sIQQ", b"GGUF", 3, 0, 0),
    "more entries than any": header(*PLAIN, count=2**62),
    "fewer entries than it says": header(*PLAIN, count=50),
    "a key without end": header(HUGE),
    "a text without end": header(entry("general.architecture", TEXT, HUGE)),
    "another text without end": header(entry("general.name", TEXT, HUGE)),
    "a key longer than any disk": header(LARGE),
    "a text longer than any disk": header(entry("general.architecture", TEXT, LARGE)),
    "heads for longer than any disk": header(entry("llama.attention.head_count", LIST, struct.pack("<I", U8) + LARGE)),
    "a list without end": header(entry("x", LIST, struct.pack("<I", U8) + HUGE)),
    "a list of texts without end": header(entry("x", LIST, struct.pack("<I", TEXT) + HUGE)),
    "heads without end": header(entry("llama.attention.head_count_kv", LIST, struct.pack("<I", U32) + HUGE)),
    "heads of texts": header(entry("llama.attention.head_count_kv", LIST, struct.pack("<IQ", TEXT, 1) + text(b"8"))),
    "a list of lists": header(entry("x", LIST, struct.pack("<IQ", LIST, 1) + struct.pack("<IQ", U8, 1) + b"\0")),
    "an unknown type": header(entry("x", 99, b"")),
    "a key that is no text": header(text(b"\xff\xfe") + struct.pack("<I", U8) + b"\0"),
    "no layers": header(ARCHITECTURE, number("llama.attention.head_count", 8)),
    "layers without end": header(*PLAIN, number("llama.block_count", 2**32 - 1)),
    "no heads": header(*PLAIN, number("llama.attention.head_count", 0)),
    "heads that are a truth": header(*PLAIN, entry("llama.attention.head_count", BOOL, b"\1")),
    "a number beyond all": header(*PLAIN, entry("llama.context_length", U64, struct.pack("<Q", 2**60))),
    "less than nothing": header(*PLAIN, entry("llama.attention.key_length", 5, struct.pack("<i", -1))),
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES)
def test_a_file_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotReadable):
        read(written(tmp_path, content))


def test_a_file_cut_off_anywhere_is_refused_or_understood(tmp_path: Path) -> None:
    whole = by_the_library(tmp_path / "whole.gguf").read_bytes()
    understood = 0
    for length in range(0, 1200, 7):
        try:
            understood += read(written(tmp_path, whole[:length])).layers == 4
        except NotReadable:
            continue
    assert 0 < understood < 1200 / 7


def test_texts_in_a_sparse_file_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of nothing but zeros is as large as it likes, and has empty texts without end."""
    monkeypatch.setattr(gguf_header, "MOST_STRINGS", 1000)
    file = written(tmp_path, header(entry("x", LIST, struct.pack("<IQ", TEXT, 1001)), count=2))
    os.truncate(file, 2**40)
    with pytest.raises(NotReadable, match="too many texts"):
        read(file)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(NotReadable):
        read(tmp_path / "pipe.gguf")


def test_a_file_that_is_not_there_is_none_either(tmp_path: Path) -> None:
    with pytest.raises(NotReadable):
        read(tmp_path / "m.gguf")

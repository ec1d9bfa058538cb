"""What the header of a GGUF file says of a model, and of its KV cache.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Only the start of the file is read, and not much of it
whatever it claims to hold: it may come from anywhere.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import msgspec

Value = int | float | bool | str | tuple[int, ...]

LONGEST_KEY = 65535
"""Bytes; the format's own limit."""
LONGEST_NAME = 100
"""Bytes of an architecture's name."""
MOST_ENTRIES = 10_000
MOST_STRINGS = 1_000_000
"""In all lists together. Each has to be passed over alone; the largest vocabularies have half a million."""
MOST_LAYERS = 1000
LONGEST_TEMPLATE = 2**20
"""Bytes of a chat template."""
FIRST_PART = 32 * 2**20
"""Bytes of a file in which its chat template is looked for; the largest vocabularies take ten million before it."""

_WANTED = (
    *("general.architecture", ".block_count", ".attention.head_count", ".attention.head_count_kv"),
    *(".embedding_length", ".attention.key_length", ".attention.value_length", ".attention.causal", ".context_length"),
)

# Type number → struct's letter: the integers, the floats, the truth value.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_INTEGERS = frozenset("BbHhIiQq")
_TEXT, _LIST = 8, 9


class NotReadable(Exception):
    """The file is no GGUF, or none that can be believed."""


class Attention(msgspec.Struct, frozen=True):
    """The size of a model's KV cache: for each layer its KV heads (none: it keeps no cache), and the numbers that each
    head keeps of a token as key and as value. `context` is the model's own, in tokens, 0 where it does not say."""

    heads: tuple[int, ...]
    key: int
    value: int
    context: int

    @property
    def layers(self) -> int:
        return len(self.heads)


class Header(msgspec.Struct, frozen=True):
    """What a file says of its model; 0 where it does not. `width`: of its vectors."""

    architecture: str
    context: int
    width: int


def read(file: Path) -> Attention:
    """Raises NotReadable and OSError."""
    return _attention(_entries(file))


def describe(file: Path) -> Header:
    """Raises NotReadable and OSError."""
    entries = _entries(file)
    kind = entries.get("general.architecture")
    if not isinstance(kind, str):
        raise NotReadable("it does not say of what architecture it is")
    return Header(kind, _whole(entries.get(f"{kind}.context_length")), _whole(entries.get(f"{kind}.embedding_length")))


def chat_template(file: Path) -> str:
    """Empty where there is none. It stands behind the vocabulary, which is looked through as bytes: to pass over its
    texts one by one would take half a second. Raises OSError."""
    name = b"tokenizer.chat_template"
    mark = struct.pack("<Q", len(name)) + name + struct.pack("<I", _TEXT)
    with file.open("rb") as stream:
        held, seen = b"", 0
        while seen < FIRST_PART and (piece := stream.read(2**20)):
            seen += len(piece)
            held = held[-len(mark) :] + piece
            at = held.find(mark)
            if at >= 0:
                rest = held[at + len(mark) :] + stream.read(LONGEST_TEMPLATE + 8)
                size = int.from_bytes(rest[:8], "little")
                return rest[8 : 8 + min(size, LONGEST_TEMPLATE)].decode(errors="replace")
    return ""


def _entries(file: Path) -> dict[str, Value]:
    if not file.is_file():
        raise NotReadable("it is not a file")  # a pipe would never end
    with file.open("rb") as stream:
        try:
            return _Reader(stream, file.stat().st_size).entries()
        except (struct.error, UnicodeDecodeError, OverflowError) as error:
            raise NotReadable(str(error)) from None


class _Reader:
    """The header's entries, one after the other."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size
        self._strings = 0

    def entries(self) -> dict[str, Value]:
        """What is wanted of them. The rest is passed over and never held."""
        magic, version, _, count = struct.unpack("<4sIQQ", self._take(24))
        if magic != b"GGUF" or version not in (2, 3) or count > MOST_ENTRIES:
            raise NotReadable("not a GGUF file of a known version")
        found: dict[str, Value] = {}
        for _ in range(count):
            key = self._take(self._number("Q", most=LONGEST_KEY)).decode()
            if key.startswith("tokenizer.") and any(known.endswith(".block_count") for known in found):
                break  # the vocabulary, in every converter's files after what is wanted, is most of the header
            kind = self._number("I")
            if key.endswith(_WANTED):
                found[key] = self._value(kind)
            else:
                self._pass_over(kind)
        return found

    def _value(self, kind: int) -> Value:
        if kind in _SCALARS:
            value: Value = self._scalars(_SCALARS[kind], 1)[0]
            return value
        if kind == _TEXT:
            return self._take(self._number("Q", most=LONGEST_NAME)).decode()
        inner = _SCALARS.get(self._number("I"), "") if kind == _LIST else ""
        if inner not in _INTEGERS:
            raise NotReadable("neither a number, a text nor a list of integers")
        return self._scalars(inner, self._number("Q", most=MOST_LAYERS))

    def _pass_over(self, kind: int) -> None:
        inner, count = (self._number("I"), self._number("Q")) if kind == _LIST else (kind, 1)
        if inner in _SCALARS:
            self._skip(count * struct.calcsize(f"<{_SCALARS[inner]}"))
        elif inner == _TEXT:
            self._strings += count
            if self._strings > MOST_STRINGS:
                raise NotReadable("too many texts")
            for _ in range(count):
                self._skip(self._number("Q"))
        else:
            raise NotReadable(f"a value of the unknown type {inner}")

    def _number(self, letter: str, most: int = 2**63) -> int:
        number = int(self._scalars(letter, 1)[0])
        if number > most:
            raise NotReadable("a length beyond all bounds")
        return number

    def _scalars(self, letter: str, count: int) -> tuple[int, ...]:
        form = f"<{count}{letter}"
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def _take(self, length: int) -> bytes:
        taken = self._stream.read(length)
        if len(taken) < length:
            raise NotReadable("it ends in the middle of its header")
        return taken

    def _skip(self, length: int) -> None:
        if self._stream.tell() + length > self._size:
            raise NotReadable("it ends in the middle of its header")
        self._stream.seek(length, 1)


def _attention(entries: dict[str, Value]) -> Attention:
    kind = entries.get("general.architecture")
    layers = _whole(entries.get(f"{kind}.block_count"), most=MOST_LAYERS)
    heads = entries.get(f"{kind}.attention.head_count")
    most = max(heads, default=0) if isinstance(heads, tuple) else _whole(heads)
    if not layers or not most:
        raise NotReadable("it does not say how many layers and heads it has")
    kept = entries.get(f"{kind}.attention.head_count_kv", heads)
    each = _whole(entries.get(f"{kind}.embedding_length")) // most
    if entries.get(f"{kind}.attention.causal") is False:
        kept = 0  # an encoder looks at a text once
    return Attention(
        heads=tuple(map(_whole, kept)) if isinstance(kept, tuple) else (_whole(kept),) * layers,
        key=_whole(entries.get(f"{kind}.attention.key_length", each)),
        value=_whole(entries.get(f"{kind}.attention.value_length", each)),
        context=_whole(entries.get(f"{kind}.context_length")),
    )


def _whole(value: Value | None, most: int = 2**31) -> int:
    """A count; 0 for what is none. Raises NotReadable for what cannot be one."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    if not 0 <= value <= most:
        raise NotReadable(f"{value} is no count")
    return value

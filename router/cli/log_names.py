"""The names that a file declares, each with what it leads to, whatever else is wrong with the file."""

import os
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from router.config import find_file
from router.config.reading import parse


class Declared(msgspec.Struct, frozen=True):
    """A model or group with all its names, its own first. `members` are a group's."""

    names: tuple[str, ...]
    runs: Literal["here", "elsewhere", "group"]
    members: tuple[str, ...] = ()

    @property
    def own(self) -> str:
        return self.names[0]


def declared(option: str | None) -> dict[str, Declared]:
    """By each public name; none where no file is at hand."""
    file = find_file(option)
    if not file.exists():
        return {}
    models = (parse(file.read_text("utf-8-sig"), os.environ).data or {}).get("models")
    every = [_read(name, entry) for name, entry in _items(models) if isinstance(entry, dict)]
    others = {name: each for each in every for name in each.names[1:]}
    return others | {each.own: each for each in every}


def _read(name: str, entry: dict[str, Any]) -> Declared:
    names = (name, *_words(entry.get("aliases")), *_words(entry.get("lora")))
    if "group" in entry:
        return Declared(names, "group", tuple(_words(entry["group"])))
    return Declared(names, "elsewhere" if "url" in entry else "here")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    yield from value.items() if isinstance(value, dict) else ()


def _words(value: Any) -> list[str]:
    """Of a list, or the names of a mapping."""
    return [word for word in value if isinstance(word, str)] if isinstance(value, list | dict) else []

"""The GPU memory that engines were seen to take, kept over restarts of the router."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

MOST = 1000
"""Entries; the oldest make room."""
LARGEST = 2**20
"""Bytes of a file that is read."""


class Remembered:
    """Bytes a GPU by an engine's fingerprint, in the JSON file `path`.

    A file that cannot be read is an empty one: everything in it can be measured again. For the same reason a disk that
    takes nothing is not an error, and what was measured is then known until the router ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sizes = _load(path)

    def get(self, fingerprint: str) -> int | None:
        return self._sizes.get(fingerprint)

    def put(self, fingerprint: str, size: int) -> None:
        """Writes the file, if there is news."""
        if size <= 0 or self._sizes.get(fingerprint) == size:
            return
        self._sizes.pop(fingerprint, None)  # the newest stands last
        self._sizes[fingerprint] = size
        while len(self._sizes) > MOST:
            del self._sizes[next(iter(self._sizes))]
        with suppress(OSError):
            self._save()

    def _save(self) -> None:
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(self._sizes), indent=1) + b"\n")
        os.replace(new, self._path)


def _load(path: Path) -> dict[str, int]:
    with suppress(OSError, msgspec.DecodeError, RecursionError):
        with path.open("rb") as stream:
            text = stream.read(LARGEST + 1)
        found = msgspec.json.decode(text, type=dict[str, object])
        sizes = {name: size for name, size in found.items() if type(size) is int and size > 0}
        return dict(list(sizes.items())[-MOST:])
    return {}

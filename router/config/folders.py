"""`state_dir` and `engines_dir`: nothing is made here, only what would fail later is found."""

import os
from pathlib import Path

from router.config.faults import Where
from router.config.scope import Scope

SOCKET = Path("run") / f"{'0' * 16}.sock"
"""As long as the longest socket below the state folder (see `router/fleet/files.py`)."""
LONGEST_SOCKET = 107
"""Bytes of a unix socket's path: `sun_path` less its final NUL."""


def state(scope: Scope, text: str) -> Path:
    folder = scope.path(text)
    excess = len(os.fsencode(folder / SOCKET)) - LONGEST_SOCKET
    if excess > 0:
        longest = len(os.fsencode(folder)) - excess
        problem = (
            f"sockets below it would have paths of {LONGEST_SOCKET + excess} bytes, and {LONGEST_SOCKET} are allowed"
        )
        scope.document.fault(("state_dir",), problem, f"choose a folder whose path has at most {longest} bytes")
    elif _is_folder(scope, folder, ("state_dir",)):
        above = next(place for place in (folder, *folder.parents) if place.is_dir())
        if not os.access(above, os.W_OK | os.X_OK):
            scope.document.fault(("state_dir",), f"{above} cannot be written", "choose a folder of your own")
    return folder


def engines(scope: Scope, text: str) -> Path:
    folder = scope.path(text)
    _is_folder(scope, folder, ("engines_dir",))
    return folder


def _is_folder(scope: Scope, folder: Path, where: Where) -> bool:
    """Whether it is one, or could become one."""
    for place in (folder, *folder.parents):
        if os.path.isdir(place):
            return True
        if os.path.lexists(place):
            scope.document.fault(where, f"{place} is not a folder", "name a folder, or one that can be made")
            return False
    return True

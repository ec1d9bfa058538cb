"""What an engine's process gets as its environment."""

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from launchers.base import Command


def environment(inherited: Mapping[str, str], command: Command, own: Mapping[str, str]) -> dict[str, str]:
    """The engine's environment: the inherited one less what the launcher scrubs, what it sets, and the model's own."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not any(fnmatchcase(name, pattern) for pattern in command.scrub)
    }
    env = {**kept, **command.env, **own}
    # What an engine's environment brings along (ninja for vLLM's kernels) is found as if it were activated. A folder
    # that is on PATH already keeps its place: /bin of `bash serve.sh` must not come before the user's own environment.
    program, path = Path(command.argv[0]), env.get("PATH", os.defpath)
    if program.is_absolute() and str(program.parent) not in path.split(os.pathsep):
        env["PATH"] = f"{program.parent}{os.pathsep}{path}"
    return env

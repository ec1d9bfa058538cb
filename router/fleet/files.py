"""What the fleet keeps in the state folder."""

import errno
import os
import stat
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, unquote


class Files:
    """`run/` for the keepers' sockets, `logs/` for the engines' output. Only the owner can read them."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.run = state_dir / "run"
        self.logs = state_dir / "logs"

    def make(self) -> None:
        """Raises OSError."""
        self.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._check_owner()
        for folder in (self.run, self.logs):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)

    def _check_owner(self) -> None:
        """Who else may write here could lay links, and so have other files of this user's written over."""
        found = self.state_dir.stat()
        if found.st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "it belongs to another user")
        if found.st_mode & stat.S_IWOTH:
            raise PermissionError(errno.EPERM, "everybody may write in it")
        if found.st_mode & stat.S_IWGRP and found.st_gid != os.getegid():
            raise PermissionError(errno.EPERM, "another group may write in it")

    @cached_property
    def identity(self) -> str:
        """The state folder and no other, though one in a container may have the same path."""
        found = self.state_dir.stat()
        return f"{self.state_dir}#{found.st_dev:x}.{found.st_ino:x}#"

    def socket(self, run: str) -> Path:
        """Of one run's keeper, by its name of 16 characters: a unix socket's path has at most 107 bytes."""
        return self.run / f"{run}.sock"

    def log(self, model: str, replica: int) -> Path:
        """The file that is written now; rotated ones are called the same with `.1` (the newest), `.2`, … behind."""
        return self.logs / f"{quote(model, safe='')}.{replica}.log"

    def models(self) -> set[str]:
        """The models that have a log."""
        return {unquote(file.name.rsplit(".", 2)[0]) for file in self.logs.glob("*.log")}

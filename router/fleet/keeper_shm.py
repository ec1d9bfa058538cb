"""The shared memory that an engine may leave behind. Standard library only."""

import os
from collections.abc import Iterable
from contextlib import suppress

from router.fleet.keeper_tree import all_pids

SHM = "/dev/shm"  # noqa: S108


class SharedMemory:
    """The files in /dev/shm that the tree made: a killed process cannot unlink its own.

    People keep models in /dev/shm too. Ours is only what was not there before the engine, lies at the top level,
    belongs to this user, and was mapped or open *for writing* in the tree. Files are known by inode: glibc's sem_open
    renames what it has mapped.
    """

    def __init__(self, seen: Iterable[int] = ()) -> None:
        self.device = os.stat(SHM).st_dev if os.path.isdir(SHM) else -1
        self.before = {entry.inode() for entry in self._files()}
        self.seen = set(seen)

    def note(self, pids: Iterable[int]) -> None:
        """Remembers what these processes hold for writing."""
        for pid in pids:
            self.seen |= self._held(pid, writable=True) - self.before

    def sweep(self) -> None:
        """Unlinks what was noted and no living process holds. Call when the tree is gone."""
        ours = [entry for entry in self._files() if entry.inode() in self.seen and self._is_ours(entry)]
        held = set().union(*(self._held(pid, writable=False) for pid in all_pids())) if ours else set()
        for entry in ours:
            if entry.inode() not in held:
                with suppress(OSError):
                    os.unlink(entry.path)

    @staticmethod
    def _is_ours(entry: os.DirEntry[str]) -> bool:
        """Another user's process may hold a file that others can open, and only root can see whether it does."""
        with suppress(OSError):
            stat = entry.stat(follow_symlinks=False)
            return stat.st_uid == os.geteuid() and (stat.st_uid == 0 or not stat.st_mode & 0o077)
        return False

    @staticmethod
    def _files() -> list[os.DirEntry[str]]:
        with suppress(OSError), os.scandir(SHM) as entries:
            return [entry for entry in entries if entry.is_file(follow_symlinks=False)]
        return []

    def _held(self, pid: int, writable: bool) -> set[int]:
        """The inodes in /dev/shm that the process maps or has open; empty for one that is gone or hidden."""
        held: set[int] = set()
        device = f"{os.major(self.device):02x}:{os.minor(self.device):02x}".encode() if self.device >= 0 else b""
        with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as maps:
            for line in maps:
                if b" /dev/shm/" in line:
                    _, access, _, where, inode, _ = line.split(None, 5)
                    if where == device and (b"w" in access or not writable):
                        held.add(int(inode))
        with suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    link = f"/proc/{pid}/fd/{name}"
                    if os.readlink(link).startswith(SHM) and (os.lstat(link).st_mode & 0o200 or not writable):
                        stat = os.stat(link)
                        held |= {stat.st_ino} if stat.st_dev == self.device else set()
        return held

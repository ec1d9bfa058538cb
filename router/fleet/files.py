"""What the fleet keeps in the state folder."""

import hashlib
from pathlib import Path
from urllib.parse import quote, unquote


class Files:
    """`run/` for the keepers' sockets, `logs/` for the engines' output. Only the owner can read them."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.run = state_dir / "run"
        self.logs = state_dir / "logs"

    def make(self) -> None:
        for folder in (self.state_dir, self.run, self.logs):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def socket(self, model: str, replica: int) -> Path:
        """Short, whatever the name: a unix socket's path has at most 107 bytes."""
        return self.run / f"{hashlib.sha256(f'{model}#{replica}'.encode()).hexdigest()[:12]}.sock"

    def log(self, model: str, replica: int) -> Path:
        return self.logs / f"{quote(model, safe='')}.{replica}.log"

    def models(self) -> set[str]:
        """The models that have a log."""
        return {unquote(file.name.rsplit(".", 2)[0]) for file in self.logs.glob("*.log")}

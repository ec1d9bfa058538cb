"""`python -m demo OUTDIR [--only gguf|hf] [--force]`: makes the tiny models that are not there yet."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from demo import bert, llama

MAKERS: Final[dict[str, Callable[[Path], None]]] = {
    "chat.gguf": llama.write_gguf,
    "chat-end.gguf": partial(llama.write_gguf, shape=llama.ENDS),
    "chat-slow.gguf": partial(llama.write_gguf, shape=llama.SLOW),
    "embedding.gguf": bert.write_gguf,
    "lora.gguf": llama.write_lora_gguf,
    "rerank.gguf": partial(bert.write_gguf, rerank=True),
    "hf/chat": llama.write_folder,
    "hf/chat-end": partial(llama.write_folder, shape=llama.ENDS),
    "hf/embedding": bert.write_folder,
    "hf/rerank": partial(bert.write_folder, rerank=True),
    "hf/lora": llama.write_lora,
}


def make(folder: Path, only: str | None = None, *, force: bool = False) -> list[Path]:
    """Makes what `folder` lacks, or with `force` all, and returns what it made. `only` is "gguf" or "hf"."""
    names = [name for name in MAKERS if only is None or _form(name) == only]
    return [folder / name for name in names if _publish(folder / name, MAKERS[name], force=force)]


def _form(name: str) -> str:
    return "hf" if name.startswith("hf/") else "gguf"


def _publish(target: Path, write: Callable[[Path], None], *, force: bool) -> bool:
    """Writes beside the target and renames: nobody ever opens half a model, and two makers at once do no harm."""
    if target.exists() and not force:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
        made, old = Path(scratch, target.name), Path(scratch, "old")
        write(made)
        if target.is_dir():
            target.rename(old)
        os.replace(made, target)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="Make the tiny models of the demo and the tests."
    )
    parser.add_argument("folder", metavar="OUTDIR", type=Path)
    parser.add_argument("--only", choices=("gguf", "hf"), help="one form; both by default")
    parser.add_argument("--force", action="store_true", help="make anew what is there already")
    options = parser.parse_args(arguments)
    made = make(options.folder, options.only, force=options.force)
    for path in made:
        print(f"made {path}")
    if not made:
        print(f"all models are in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Starts a Python engine that takes its API key only as a flag: `python with_key.py FLAG SCRIPT [ARGS…]`.

Every user of a machine can read the arguments of a process. So the key comes from ENGINE_API_KEY, and `FLAG KEY` is
added where only the engine itself sees it: in `sys.argv`. The engine's log shall not have it either, and SGLang logs
all its settings. SCRIPT is the engine's console script. This file stands alone: the engine's interpreter runs it.
"""

import logging
import os
import runpy
import sys
from typing import Any


def hide(key: str) -> None:
    """From here on no record of this process's logging holds the key."""
    make = logging.getLogRecordFactory()

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make(*args, **kwargs)
        if key in f"{made.msg}{made.args}":
            made.msg, made.args = made.getMessage().replace(key, "***"), None
        return made

    logging.setLogRecordFactory(record)


def main() -> None:
    key = os.environ.pop("ENGINE_API_KEY")
    flag, script, *words = sys.argv[1:]
    hide(key)
    sys.argv = [script, *words, flag, key]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()

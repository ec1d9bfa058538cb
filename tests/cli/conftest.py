"""Makes `running.py`, one folder up, known to the tests beside this file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from running import make, up

__all__ = ["make", "up"]

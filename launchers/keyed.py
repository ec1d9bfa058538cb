"""Python engines that take their API key only as a flag: started by `with_key.py`, which keeps it out of sight."""

from collections.abc import Sequence
from pathlib import Path

from launchers import programs
from launchers.base import Program

_WRAPPER = Path(__file__).with_name("with_key.py")
KEY_VARIABLE = "ENGINE_API_KEY"


def find(places: Sequence[Path], script: str) -> Program | None:
    """The console script `script` of the first of `places` that has it, with the interpreter that it is meant for."""
    found = programs.find(places, script)
    python = _interpreter(found) if found else None
    # Isolated, unbuffered.
    return Program((str(python), "-I", "-u", str(found))) if python else None


def argv(program: Program, flag: str) -> tuple[str, ...]:
    """The first words of `program`, so that it gets the key of KEY_VARIABLE by `flag`."""
    *python, script = program.argv
    return (*python, str(_WRAPPER), flag, script)


def _interpreter(script: Path) -> Path | None:
    """The one in the script's first line. pip writes another one there if the path is long; then the one beside it."""
    with script.open("rb") as file:
        line = file.readline(4096).decode(errors="replace")
    named = Path(line.removeprefix("#!").strip())
    return next((python for python in (named, script.with_name("python")) if programs.is_interpreter(python)), None)

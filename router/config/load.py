"""Finds the file, reads it, and reports every fault at once."""

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from router.config.convert import parts
from router.config.document import ABSENT, Document
from router.config.faults import ConfigError, Fault
from router.config.reading import parse
from router.config.resolve import resolve
from router.config.schema import RouterFile
from router.config.scope import GpuIdentity, Scope
from router.config.specs import Config

DEFAULT = "router.yaml"
LARGEST = 2**20
"""Bytes of a file: some thousand models, and YAML is read at a megabyte in three seconds."""


def find_file(option: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """`-c`, else `$ROUTER_CONFIG`, else `./router.yaml`."""
    named = option or environment.get("ROUTER_CONFIG") or DEFAULT
    return Path(os.path.expanduser(named)).absolute()


def load(
    file: Path, inventory: Callable[[], Sequence[GpuIdentity]], environment: Mapping[str, str] = os.environ
) -> Config:
    """The checked configuration, or ConfigError."""
    document = parse(_read(file), environment)
    config = None if document.data is None else resolve(Scope(document, file.parent, inventory), file)
    if config is None:
        raise ConfigError(str(file), document.faults)
    return config


def state_dir(option: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the router of this file keeps its state, whatever else is wrong with the file. The usual folder if no file
    was named and there is none. Raises ConfigError."""
    file = find_file(option, environment)
    if not option and not environment.get("ROUTER_CONFIG") and not file.exists():
        return Scope(Document(), file.parent, list).path(RouterFile(models={}).state_dir)
    document = parse(_read(file), environment)
    if document.data is None:
        raise ConfigError(str(file), document.faults)
    return _state_of(document, file)


def _state_of(document: Document, file: Path) -> Path:
    written = {key: value for key, value in (document.data or {}).items() if key == "state_dir"}
    text = parts(document, {**written, "models": {}}, RouterFile, ()).get("state_dir", RouterFile(models={}).state_dir)
    if text is ABSENT:
        mine = [fault for fault in document.faults if fault.path == "state_dir"]
        raise ConfigError(str(file), mine)
    return Scope(document, file.parent, list).path(text)


def _read(file: Path) -> str:
    try:
        # A pipe would keep us waiting for a writer.
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error), "name the file with -c FILE or $ROUTER_CONFIG") from None
    if len(content) > LARGEST:
        raise _unreadable(file, f"more than {LARGEST} bytes", "is it the right file? Name it with -c FILE")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(file, "it is not UTF-8 text", "save it as UTF-8", line) from None


def _unreadable(file: Path, reason: str, remedy: str, line: int = 0) -> ConfigError:
    return ConfigError(str(file), [Fault("", line, f"cannot be read: {reason}", remedy)])

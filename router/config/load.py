"""Finds the file, reads it, and reports every fault at once."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from router.config.document import parse
from router.config.resolve import Config, GpuIdentity, Resolver
from router.config.schema import RouterFile
from router.config.values import ConfigError, Fault

DEFAULT = "router.yaml"


def find_file(option: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """`-c`, else `$ROUTER_CONFIG`, else `./router.yaml`."""
    return Path(option or environment.get("ROUTER_CONFIG") or DEFAULT).expanduser().absolute()


def load(
    file: Path, inventory: Callable[[], Sequence[GpuIdentity]], environment: Mapping[str, str] = os.environ
) -> Config:
    """The checked configuration, or ConfigError."""
    document = parse(_read(file), environment)
    config = None
    if isinstance(document.data, dict) and document.data:
        config = Resolver(document, file, inventory).resolve()
    if config is None:
        raise ConfigError(str(file), document.faults)
    return config


def state_dir(option: str | None, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the router of this file keeps its state, whatever else is wrong with the file. The usual folder if no file
    was named and there is none. Raises ConfigError."""
    file = find_file(option, environment)
    named = option or environment.get("ROUTER_CONFIG")
    text = "" if not named and not file.exists() else _read(file)
    value = parse(text, environment).data.get("state_dir", RouterFile(models={}).state_dir)
    return (file.parent / Path(str(value)).expanduser()).absolute()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        fault = Fault("", 0, f"cannot be read: {reason}", "name the file with -c FILE or $ROUTER_CONFIG")
        raise ConfigError(str(file), [fault]) from None

"""The file in, a `Config` out, or every fault at once."""

from router.config.faults import ConfigError, Fault
from router.config.load import find_file, load, state_dir
from router.config.specs import (
    Config,
    Edits,
    EngineSpec,
    GroupSpec,
    KeySpec,
    RemoteSpec,
    Wants,
    first_share,
    launch,
)

__all__ = [
    "Config",
    "ConfigError",
    "Edits",
    "EngineSpec",
    "Fault",
    "GroupSpec",
    "KeySpec",
    "RemoteSpec",
    "Wants",
    "find_file",
    "first_share",
    "launch",
    "load",
    "state_dir",
]

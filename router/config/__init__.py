"""The file in, a `Config` out, or every fault at once."""

from router.config.load import find_file, load, state_dir
from router.config.resolve import Config, EngineSpec, KeySpec, RemoteSpec
from router.config.values import ConfigError, Fault

__all__ = ["Config", "ConfigError", "EngineSpec", "Fault", "KeySpec", "RemoteSpec", "find_file", "load", "state_dir"]

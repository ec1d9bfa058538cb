"""The engines that the router can start, one launcher each. A new one is a file, a line here, a table of tests."""

from launchers.base import Launcher
from launchers.command import CommandLauncher
from launchers.infinity import Infinity
from launchers.llamacpp import LlamaCpp
from launchers.vllm import Vllm

LAUNCHERS: dict[str, Launcher] = {
    "vllm": Vllm(),
    "llamacpp": LlamaCpp(),
    "infinity": Infinity(),
    "command": CommandLauncher(),
}

"""The engines that the router can start, one launcher each. A new one is a file, a line here, a table of tests."""

from launchers.base import Launcher
from launchers.command import CommandLauncher
from launchers.infinity import Infinity
from launchers.llamacpp import LlamaCpp
from launchers.lmdeploy import Lmdeploy
from launchers.mlx import Mlx
from launchers.ollama import Ollama
from launchers.sglang import Sglang
from launchers.speaches import Speaches
from launchers.tei import Tei
from launchers.transformers import Transformers
from launchers.trtllm import Trtllm
from launchers.vllm import Vllm

LAUNCHERS: dict[str, Launcher] = {
    "vllm": Vllm(),
    "llamacpp": LlamaCpp(),
    "infinity": Infinity(),
    "sglang": Sglang(),
    "lmdeploy": Lmdeploy(),
    "trtllm": Trtllm(),
    "mlx": Mlx(),
    "ollama": Ollama(),
    "speaches": Speaches(),
    "tei": Tei(),
    "transformers": Transformers(),
    "command": CommandLauncher(),
}

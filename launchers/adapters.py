"""LoRA adapters as flags: engines take `name=path`, or JSON, where a path may hold a `=` too."""

import json
from collections.abc import Mapping

from launchers.base import Launch, Refusal


def as_json(lora: Mapping[str, str], name: str, path: str) -> list[str]:
    """One JSON object an adapter, whose members are called `name` and `path`."""
    return [json.dumps({name: adapter, path: where}) for adapter, where in lora.items()]


def refuse(launch: Launch, engine: str, remedy: str) -> None:
    """Raises Refusal where the model has adapters and its engine cannot serve them."""
    if launch.lora:
        raise Refusal("lora", f"{engine} cannot serve adapters as models of their own", remedy)

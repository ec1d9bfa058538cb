"""Settings as people read them: what may stand in one, and a value on one line."""

import json
from collections.abc import Collection
from typing import Any, Literal, get_args, get_origin

import msgspec

from router.config.json_schema import leaves


def shape(kind: Any) -> str:
    """What may stand there, for a setting without an example."""
    return " | ".join(_shape_of(leaf, metas) for leaf, metas in leaves(kind) if leaf is not type(None))


def _shape_of(kind: Any, metas: Collection[msgspec.Meta]) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) is list:
        return f"[{shape(get_args(kind)[0])}, …]"
    if get_origin(kind) is dict:
        return f"{{{shape(get_args(kind)[0])}: {shape(get_args(kind)[1])}, …}}"
    names: dict[Any, str] = {bool: "true | false", int: "NUMBER", float: "NUMBER", str: "TEXT"}
    least = next((meta.ge for meta in metas if meta.ge is not None), None)
    return names[kind] if least is None else f"{names[kind]} (from {least})"


def inline(value: Any) -> str:
    """As YAML on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {inline(part)}' for name, part in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(inline, value))}]"
    if isinstance(value, str):
        return json.dumps(value) if set(value) & set("{}[]$#*&!|>'\"%@`") else value
    return json.dumps(value)

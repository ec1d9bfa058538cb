"""`configs/reference.yaml` and `configs/router.schema.json`, made from the descriptions in the Structs.

`python -m router.config.reference` writes both anew; a test holds them in step.
"""

import json
import sys
import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from launchers import LAUNCHERS
from launchers.base import Launcher
from router.config.groups import FOR_GROUPS
from router.config.json_schema import about, default_of, json_schema, leaves
from router.config.schema import KeyEntry, LogEntry, ModelEntry, RouterFile, Shared

__all__ = ["json_schema", "main", "reference", "schema_text"]

REFERENCE, SCHEMA = "reference.yaml", "router.schema.json"
WIDTH = 120
HEAD = """\
# yaml-language-server: $schema=./router.schema.json
#
# Every setting of router.yaml. A line that begins with # and a word at once, like `#gpus: auto`, is a setting that is
# not set, with an example; all other settings stand here with their defaults. A file needs no more than `models`.
#
# Durations have units (500ms, 30s, 10m, 1h30m), and so have sizes (512KiB, 64MiB, 18GiB). Any value may hold
# ${NAME} or ${NAME:-default} from the environment; $${ is a plain ${. A key of the file that begins with `x-` is yours:
# a place for YAML anchors.
#
# Made by `python -m router.config.reference`: change the descriptions in router/config/schema.py and launchers/.
"""
_MODELS = {"vllm": "Qwen/Qwen3-8B", "llamacpp": "Qwen/Qwen3-8B-GGUF:Q4_K_M", "infinity": "BAAI/bge-m3"}
_OF_A_GROUP = [f"`{field}`" for field in FOR_GROUPS if field != "group"]
_REMOTE = ("url", "api_key", "api_key_file", "upstream_model")
_COMMAND = {"argv": ["python3", "server.py", "--port", "${PORT}"]}


def reference() -> str:
    """A whole file that the loader takes where the engines are installed."""
    return "\n".join([HEAD, *_top()]) + "\n"


def schema_text() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def main(folder: str = "configs") -> None:
    for name, text in ((REFERENCE, reference()), (SCHEMA, schema_text())):
        (Path(folder) / name).write_text(text, encoding="utf-8")


def _top() -> Iterator[str]:
    sections = {"keys": _keys, "defaults": _defaults, "log": _log, "models": _models}
    fields = msgspec.structs.fields(RouterFile)
    for field in sorted(fields, key=lambda field: field.name in sections):
        if field.name not in sections:
            yield from _setting(field, 0)
    for name, section in sections.items():
        field = next(field for field in fields if field.name == name)
        yield from _prose(about(field.type)[0], 0)
        yield from section()


def _keys() -> Iterator[str]:
    """The two ways to write one."""
    name, *others = msgspec.structs.fields(KeyEntry)
    for field in (name, *others):
        yield from (f"#   {line}" for line in _wrapped(f"{field.name}: {about(field.type)[0]}", 4))
    yield "#keys:"
    for way, holder in zip((field for field in others if field.name in ("hash", "key")), ("dify", "n8n"), strict=True):
        yield f"#  - {_inline({name.name: holder, way.name: about(way.type)[1][0]})}"
    yield ""


def _defaults() -> Iterator[str]:
    yield "defaults:"
    for field in msgspec.structs.fields(Shared):
        yield from _setting(field, 2)


def _log() -> Iterator[str]:
    yield "log:"
    for field in msgspec.structs.fields(LogEntry):
        yield from _setting(field, 2)


def _models() -> Iterator[str]:
    yield "models:"
    for index, launcher in enumerate(LAUNCHERS.values()):
        yield from _engine(launcher, whole=index == 0)
    fields = msgspec.structs.fields(ModelEntry)
    yield from _prose("A server elsewhere.", 2)
    yield "  elsewhere:"
    for field in fields:
        if field.name in _REMOTE:
            yield from _setting(field, 4, {"url": about(field.type)[1][0]} if field.name == "url" else {})
    yield from _prose(f"A name over several models. Besides `group` it may have {', '.join(_OF_A_GROUP)}.", 2)
    yield "  together:"
    group = next(field for field in fields if field.name == "group")
    yield from _setting(group, 4, {"group": about(group.type)[1][0]})


def _engine(launcher: Launcher, *, whole: bool) -> Iterator[str]:
    """One model of this engine, with its options; the first one shows what all models have."""
    yield from _prose(f"engine: {launcher.name}, {launcher.summary.removeprefix(f'{launcher.name}: ')}", 2)
    yield f"  with-{launcher.name}:"
    live = {"engine": launcher.name, "model": _MODELS.get(launcher.name)}
    if whole:
        yield from _prose("What stands in `defaults` may stand in each model too.", 4)
        yield ""
        for field in msgspec.structs.fields(ModelEntry):
            if field.name not in (*_REMOTE, "group", *Shared.__struct_fields__, "options"):
                yield from _setting(field, 4, live)
    else:
        yield from (f"    {name}: {value}" for name, value in live.items() if value)
    yield "    options:"
    for field in msgspec.structs.fields(launcher.Options):
        yield from _setting(field, 6, _COMMAND if launcher.name == "command" else {})


def _setting(field: msgspec.structs.FieldInfo, indent: int, live: dict[str, Any] | None = None) -> Iterator[str]:
    """The description, then the setting with the value of `live` or its default, else an example behind a `#`."""
    description, examples = about(field.type)
    default, space = default_of(field), " " * indent
    value = (live or {}).get(field.name)
    if value is None and default not in (None, [], {}):
        value = default
    others = [_inline(example) for example in examples[0 if value is not None else 1 :] if example != value]
    yield from _prose(f"{description} Or: {'; '.join(others)}" if others else description, indent)
    if value is not None:
        yield f"{space}{field.name}: {_inline(value)}"
    else:
        yield f"{space}#{field.name}: {_inline(examples[0]) if examples else _shape(field.type)}"
    yield ""


def _shape(kind: Any) -> str:
    """What may stand there, for a setting without an example."""
    return " | ".join(_shape_of(leaf, metas) for leaf, metas in leaves(kind) if leaf is not type(None))


def _shape_of(kind: Any, metas: Collection[msgspec.Meta]) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) is list:
        return f"[{_shape(get_args(kind)[0])}, …]"
    if get_origin(kind) is dict:
        return f"{{{_shape(get_args(kind)[0])}: {_shape(get_args(kind)[1])}, …}}"
    names: dict[Any, str] = {bool: "true | false", int: "NUMBER", float: "NUMBER", str: "TEXT"}
    least = next((meta.ge for meta in metas if meta.ge is not None), None)
    return names[kind] if least is None else f"{names[kind]} (from {least})"


def _prose(text: str, indent: int) -> list[str]:
    return [f"{' ' * indent}# {line}" for line in _wrapped(text, indent + 2)]


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False)


def _inline(value: Any) -> str:
    """As YAML on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_inline(part)}' for name, part in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, str):
        return json.dumps(value) if set(value) & set("{}[]$#*&!|>'\"%@`") else value
    return json.dumps(value)


if __name__ == "__main__":
    main(*sys.argv[1:])

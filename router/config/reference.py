"""`configs/reference.yaml`, `configs/router.schema.json` and `docs/engines/`, made from the Structs' descriptions.

`python -m router.config.reference` writes them anew; a test holds them in step.
"""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from launchers import LAUNCHERS
from launchers.base import Launcher
from router.config.engine_pages import pages
from router.config.groups import FOR_GROUPS
from router.config.json_schema import about, default_of, json_schema
from router.config.programs import is_described
from router.config.samples import COMMAND, model_of
from router.config.schema import KeyEntry, LogEntry, ModelEntry, RouterFile, Shared
from router.config.shapes import inline, shape

__all__ = ["PAGES", "files", "json_schema", "main", "reference"]

REFERENCE, SCHEMA, PAGES = "configs/reference.yaml", "configs/router.schema.json", "docs/engines"
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
_OF_A_GROUP = [f"`{field}`" for field in FOR_GROUPS if field != "group"]
_REMOTE = ("url", "api_key", "api_key_file", "upstream_model")


def reference() -> str:
    """A whole file that the loader takes where the engines are installed."""
    return "\n".join([HEAD, *_top()]) + "\n"


def _schema_text() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def files() -> dict[str, str]:
    """All that is made, by its path in the repository."""
    made = {f"{PAGES}/{name}.md": text for name, text in pages().items()}
    return {REFERENCE: reference(), SCHEMA: _schema_text(), **made}


def main(repository: str = ".") -> None:
    for name, text in files().items():
        path = Path(repository, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


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
        yield f"#  - {inline({name.name: holder, way.name: about(way.type)[1][0]})}"
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
    live = {
        "engine": launcher.name,
        "model": None if is_described(launcher) else model_of(launcher.name, launcher.default_kind),
    }
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
        yield from _setting(field, 6, COMMAND if is_described(launcher) else {})


def _setting(field: msgspec.structs.FieldInfo, indent: int, live: dict[str, Any] | None = None) -> Iterator[str]:
    """The description, then the setting with the value of `live` or its default, else an example behind a `#`."""
    description, examples = about(field.type)
    default, space = default_of(field), " " * indent
    value = (live or {}).get(field.name)
    if value is None and default not in (None, [], {}):
        value = default
    others = [inline(example) for example in examples[0 if value is not None else 1 :] if example != value]
    yield from _prose(f"{description} Or: {'; '.join(others)}" if others else description, indent)
    if value is not None:
        yield f"{space}{field.name}: {inline(value)}"
    else:
        yield f"{space}#{field.name}: {inline(examples[0]) if examples else shape(field.type)}"
    yield ""


def _prose(text: str, indent: int) -> list[str]:
    return [f"{' ' * indent}# {line}" for line in _wrapped(text, indent + 2)]


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    main(*sys.argv[1:])

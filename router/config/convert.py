"""Plain data into typed values, field by field, so that every fault is found and not only the first."""

import difflib
import re
from collections.abc import Collection
from typing import Annotated, Any, get_args, get_origin

import msgspec

from router.config.document import Document, Path
from router.config.values import decode

ABSENT: Any = object()
"""What a value that could not be converted becomes; its fault is already in the document."""


def convert(document: Document, value: Any, kind: Any, path: Path) -> Any:
    """`value` as `kind`, or ABSENT. Structs, mappings and lists are entered, so that each part has its own fault."""
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
        return _struct(document, value, plain, path)
    origin, parts = get_origin(plain), get_args(plain)
    if origin is dict and isinstance(value, dict):
        pairs = [(key, convert(document, part, parts[1], (*path, key))) for key, part in value.items()]
        return ABSENT if any(part is ABSENT for _, part in pairs) else dict(pairs)
    if origin in (list, tuple) and isinstance(value, list):
        items = [convert(document, part, parts[0], (*path, index)) for index, part in enumerate(value)]
        return ABSENT if any(item is ABSENT for item in items) else origin(items)
    try:
        return msgspec.convert(value, kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        document.fault(path, *_explain(error))
        return ABSENT


def _struct(document: Document, value: Any, kind: type[msgspec.Struct], path: Path) -> Any:
    if value is None:
        value = {}
    if not isinstance(value, dict):
        document.fault(path, f"expected a mapping, got {_name(value)}", "write `key: value` lines below it")
        return ABSENT
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    unknown(document, value, known, path)
    parts = {}
    whole = True
    for name, field in known.items():
        if name in value:
            part = convert(document, value[name], field.type, (*path, name))
            whole = whole and part is not ABSENT
            parts[field.name] = part
        elif field.required:
            document.fault(path, f"`{name}` is missing", f"add `{name}:`")
            whole = False
    return kind(**parts) if whole else ABSENT


def unknown(document: Document, value: dict[str, Any], known: Collection[str], path: Path) -> None:
    """A fault for each key of `value` that nobody reads."""
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            remedy = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(known)}"
            document.fault((*path, key), "unknown key", remedy)


def _explain(error: msgspec.ValidationError) -> tuple[str, str]:
    text = re.sub(r" - at `\$.*", "", str(error)).replace("`", "")
    problem, _, remedy = text.partition("; ")
    remedy = remedy or "see configs/reference.yaml, or `router check --schema`"
    return problem[0].lower() + problem[1:], remedy


def _name(value: Any) -> str:
    return {"str": "text", "list": "a list", "int": "a number", "bool": "true/false"}.get(
        type(value).__name__, "a value"
    )

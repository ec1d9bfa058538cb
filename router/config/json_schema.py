"""The JSON schema of `router.yaml`, made from the Structs: what editors complete and check by.

It takes what the loader takes: a key without a value is left to its default, `${NAME}` may stand for anything, and a
number is fine where text is wanted. Draft 7, which every editor's YAML support knows.
"""

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from launchers import LAUNCHERS
from launchers.base import Launcher
from router.config.groups import FOR_GROUPS
from router.config.programs import is_described
from router.config.schema import ModelEntry, RouterFile
from router.config.values import Digest, Duration, Secret, Size, Timeout, show_duration, show_size

Schema = dict[str, Any]

_SPAN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
_LEAVES: dict[Any, Schema] = {
    str: {"type": ["string", "number"]},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Duration: {"type": ["string", "integer"], "pattern": _SPAN, "maximum": 0, "minimum": 0},
    Timeout: {"type": "string", "pattern": f"^(?=.*[1-9]){_SPAN[1:]}"},
    Size: {"type": "string", "pattern": r"^(?=.*[1-9])[0-9]+(\.[0-9]+)? ?([KMGT]i?B|B)$"},
    Secret: {"type": ["string", "number"]},
    Digest: {"type": "string", "pattern": "^sha256:[0-9a-fA-F]{64}$"},
    Any: {},
}
_VARIABLE = {"$ref": "#/definitions/variable"}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum", "pattern": "pattern"}


def json_schema() -> Schema:
    definitions: Schema = {
        "variable": {"type": "string", "pattern": r"\$\{", "description": "${NAME} from the environment."}
    }
    top = _struct(RouterFile, definitions)
    model = definitions[ModelEntry.__name__]
    model["properties"]["engine"]["anyOf"] = [{"enum": list(LAUNCHERS)}, _VARIABLE, {"type": "null"}]
    model["oneOf"] = [{"required": [way]} for way in ("engine", "url", "group")]
    model["allOf"] = [_group(), *(_engine(launcher, definitions) for launcher in LAUNCHERS.values())]
    top["properties"]["models"]["minProperties"] = 1
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "router.yaml of engine-router",
        **top,
        "patternProperties": {"^x-": {}},
        "definitions": definitions,
    }


def leaves(kind: Any, metas: tuple[msgspec.Meta, ...] = ()) -> Iterator[tuple[Any, tuple[msgspec.Meta, ...]]]:
    """Each type that a field may have, with all annotations that apply to it."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *notes = get_args(kind)
        yield from leaves(inner, (*metas, *notes))
    elif origin in (Union, UnionType):
        for part in get_args(kind):
            yield from leaves(part, metas)
    else:
        yield kind, metas


def about(kind: Any) -> tuple[str, list[Any]]:
    """A field's description and examples."""
    notes = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    text = next((note.description for note in notes if note.description), "")
    return text, [example for note in notes for example in note.examples or ()]


def written(value: Any) -> Any:
    """A default as the file would have it."""
    if isinstance(value, Duration):
        return show_duration(value)
    return show_size(value) if isinstance(value, Size) else value


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """As the file would have it; None where there is none to show."""
    value = field.default if field.default is not msgspec.NODEFAULT else None
    return None if isinstance(value, msgspec.Struct) else written(value)


def _group() -> Schema:
    return {"if": {"required": ["group"]}, "then": {"propertyNames": {"enum": list(FOR_GROUPS)}}}


def _engine(launcher: Launcher, definitions: Schema) -> Schema:
    """What `engine: NAME` means for the rest of the model."""
    options = launcher.Options
    definitions[options.__name__] = _struct(options, definitions)
    reference = {"$ref": f"#/definitions/{options.__name__}"}
    needs_options = any(field.required for field in msgspec.structs.fields(options))
    required = [*([] if is_described(launcher) else ["model"]), *(["options"] if needs_options else [])]
    return {
        "if": {"properties": {"engine": {"const": launcher.name}}, "required": ["engine"]},
        "then": {
            "required": required,
            "properties": {
                "options": reference if needs_options else {"anyOf": [reference, {"type": "null"}]},
                "kind": {"anyOf": [{"enum": list(launcher.kinds)}, _VARIABLE, {"type": "null"}]},
            },
        },
    }


def _struct(kind: type[msgspec.Struct], definitions: Schema) -> Schema:
    fields = msgspec.structs.fields(kind)
    return {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "additionalProperties": False,
        "required": [field.encode_name for field in fields if field.required],
        "properties": {field.encode_name: _field(field, definitions) for field in fields},
    }


def _field(field: msgspec.structs.FieldInfo, definitions: Schema) -> Schema:
    description, examples = about(field.type)
    default = default_of(field)
    return {
        "description": description,
        **_value(field.type, definitions, nullable=not field.required),
        **({} if default is None else {"default": default}),
        **({"examples": examples} if examples else {}),
    }


def _value(kind: Any, definitions: Schema, *, nullable: bool = False) -> Schema:
    kinds = [(leaf, metas) for leaf, metas in leaves(kind) if leaf is not type(None)]
    choices = [_leaf(leaf, metas, definitions) for leaf, metas in kinds]
    if not any(leaf in (str, Secret, Any) or get_origin(leaf) in (list, dict) for leaf, _ in kinds):
        choices.append(_VARIABLE)
    if nullable or any(leaf is type(None) for leaf, _ in leaves(kind)):
        choices.append({"type": "null"})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _leaf(kind: Any, metas: tuple[msgspec.Meta, ...], definitions: Schema) -> Schema:
    origin = get_origin(kind)
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if origin is dict:
        parts = {"type": "object", "additionalProperties": _value(get_args(kind)[1], definitions)}
        return {**parts, **_bounds(metas, "minProperties"), **_extra(metas)}
    if origin is list:
        return {"type": "array", "items": _value(get_args(kind)[0], definitions), **_bounds(metas, "minItems")}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = _struct(kind, definitions)
        return {"$ref": f"#/definitions/{kind.__name__}"}
    return {**_LEAVES[kind], **_bounds(metas, "minLength")}


def _extra(metas: tuple[msgspec.Meta, ...]) -> Schema:
    """What msgspec cannot check and the loader does."""
    return {name: rule for meta in metas for name, rule in (meta.extra_json_schema or {}).items()}


def _bounds(metas: tuple[msgspec.Meta, ...], shortest: str) -> Schema:
    names = {**_BOUNDS, "min_length": shortest}
    return {
        name: getattr(meta, note) for meta in metas for note, name in names.items() if getattr(meta, note) is not None
    }

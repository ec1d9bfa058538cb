"""Plain data into typed values, part by part, so that every fault is found and not only the first."""

import difflib
import math
from collections.abc import Collection, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from router.config.document import ABSENT, Document
from router.config.faults import Where
from router.config.values import HIDDEN, PARSERS, Unfit, decode

_SEE = "see configs/reference.yaml, or `router check --schema`"


def convert(document: Document, value: Any, kind: Any, where: Where) -> Any:
    """`value` as `kind`, or ABSENT. Structs, mappings and lists are entered, so that each part has its own fault."""
    if value is ABSENT or kind is Any:
        return value
    members = list(alternatives(kind))
    if isinstance(value, dict):
        return _mapping(document, value, kind, members, where)
    if isinstance(value, list):
        return _list(document, value, kind, members, where)
    parser = next((member for member in members if member in PARSERS), None)
    if parser is not None and not (value is None and type(None) in members):
        return _parsed(document, value, parser, where)
    return _scalar(document, _as_text(document, value, members, where), kind, members, where)


def parts(
    document: Document, value: Any, kind: type[msgspec.Struct], where: Where, elsewhere: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What a mapping says, field by field: ABSENT for what is wrong, nothing for what it leaves to the default (a key
    without a value does too). `elsewhere` has remedies for keys that belong in another place."""
    if value is None:
        value = {}
    if not isinstance(value, dict):
        if value is not ABSENT:
            document.fault(where, f"expected a mapping, got {_got(value)}", "write `key: value` lines below it")
        return dict.fromkeys((field.name for field in msgspec.structs.fields(kind)), ABSENT)
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    _report_unknown(document, value, known, where, elsewhere or {})
    found = {}
    for name, field in known.items():
        if value.get(name) is not None:
            found[field.name] = convert(document, value[name], field.type, (*where, name))
        elif field.required:
            document.fault(where, f"`{name}` is missing", f"add `{name}:`")
            found[field.name] = ABSENT
    return found


def alternatives(kind: Any) -> Iterator[Any]:
    """The types that a field may have, without unions and annotations around them."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from alternatives(get_args(kind)[0])
    elif origin in (Union, UnionType):
        for part in get_args(kind):
            yield from alternatives(part)
    else:
        yield kind


def nearest(word: str, known: Collection[str]) -> str:
    """The remedy for a word that is none of `known`."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"one of: {', '.join(known)}"


def _mapping(document: Document, value: dict[str, Any], kind: Any, members: list[Any], where: Where) -> Any:
    for member in members:
        if _is_struct(member):
            found = parts(document, value, member, where)
            return ABSENT if any(part is ABSENT for part in found.values()) else member(**found)
        if get_origin(member) is dict:
            kinds = get_args(member)[1]
            found = {key: convert(document, part, kinds, (*where, key)) for key, part in value.items()}
            return _checked(document, found, found.values(), kind, where)
    return _mismatch(document, value, members, where)


def _list(document: Document, value: list[Any], kind: Any, members: list[Any], where: Where) -> Any:
    for member in members:
        if get_origin(member) is list:
            kinds = get_args(member)[0]
            sketches = {index: _sketch(part) for index, part in enumerate(value) if isinstance(part, dict) and part}
            if sketches and any(get_origin(other) is dict for other in members):
                for index, sketch in sketches.items():
                    remedy = f"write {where[-1]} as a mapping: {sketch}"
                    document.fault((*where, index), "expected text, got a mapping", remedy)
                return ABSENT
            found = [convert(document, part, kinds, (*where, index)) for index, part in enumerate(value)]
            return _checked(document, found, found, kind, where)
    return _mismatch(document, value, members, where)


def _sketch(value: Any, levels: int = 2) -> str:
    """The first keys of mappings in one another, and no value."""
    if not levels or not isinstance(value, dict) or not value:
        return "…"
    key = next(iter(value))
    return f"{{{key}: {_sketch(value[key], levels - 1)}}}"


def _checked(document: Document, whole: Any, found: Collection[Any], kind: Any, where: Where) -> Any:
    """A list or mapping whose parts are fine, against the bounds of the whole."""
    if any(part is ABSENT for part in found):
        return ABSENT
    try:
        return msgspec.convert(whole, kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        document.fault(where, *_bound(document, whole, str(error)))
        return ABSENT


def _parsed(document: Document, value: Any, kind: Any, where: Where) -> Any:
    hidden = kind in HIDDEN
    if hidden:
        value = document.texts.get(where, value) if not isinstance(value, bool) or where in document.filled else value
    try:
        return PARSERS[kind](value)
    except Unfit as unfit:
        subject = "this" if hidden else document.show(value)
        document.fault(where, f"{subject} is {unfit.problem}", unfit.remedy)
        return ABSENT


def _as_text(document: Document, value: Any, members: list[Any], where: Where) -> Any:
    """A number where only text can be is meant as text, as it is written; so is whatever a variable holds."""
    if str not in members or isinstance(value, str) or where not in document.texts:
        return value
    if where in document.filled and not {bool, int, float}.intersection(members):
        return document.texts[where]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return document.texts[where] if is_number and not {int, float}.intersection(members) else value


def _scalar(document: Document, value: Any, kind: Any, members: list[Any], where: Where) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        document.fault(where, f"{document.show(value)} is not a number to work with", "write a finite number")
        return ABSENT
    if float in members and isinstance(value, int) and abs(value) > 2**53:
        document.fault(where, "the number is too large", "write a smaller one")
        return ABSENT
    try:
        return msgspec.convert(value, kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        remedy = _own_remedy(kind)
        choices = _choices(members)
        if isinstance(value, str) and choices and str not in members:
            document.fault(where, f"{document.show(value)} is not known here", nearest(value, choices))
            return ABSENT
        if ", got `" in str(error):
            return _mismatch(document, value, members, where, remedy)
        problem, usual = _bound(document, value, str(error))
        document.fault(where, problem, remedy or usual)
        return ABSENT


def _own_remedy(kind: Any) -> str:
    """What the schema says to write there, where it does."""
    metas = [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
    return next((str(meta.extra["remedy"]) for meta in metas if meta.extra), "")


def _mismatch(document: Document, value: Any, members: list[Any], where: Where, own: str = "") -> Any:
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    wanted = [names[member] for member in members if member in names]
    wanted += [f"one of {', '.join(_choices(members))}"] if _choices(members) else []
    is_list = any(get_origin(member) is list for member in members)
    is_mapping = any(_is_struct(member) or get_origin(member) is dict for member in members)
    wanted += ["a list"] if is_list else []
    wanted += ["a mapping"] if is_mapping else []
    remedy = _SEE
    if own:
        remedy = own
    elif isinstance(value, bool) and str in members:
        remedy = f'put it in quotes if it is text: "{document.texts.get(where, str(value).lower())}"'
    elif value is None and str in members:
        remedy = 'write a value, or "" for empty text'
    elif isinstance(value, str) and {int, float}.intersection(members):
        remedy = "write the number, without quotes" if _is_number(value) else f"write {wanted[0]}"
    elif isinstance(value, str) and bool in members:
        remedy = "write true or false, without quotes"
    elif is_list and not isinstance(value, dict | list):
        remedy = "put it in brackets: [ … ]"
    elif is_mapping and isinstance(value, list) and (sketch := _weighed(value, members)):
        remedy = f"write {sketch}, each with its weight"
    elif is_mapping:
        remedy = "write `key: value` lines below it"
    document.fault(where, f"expected {' or '.join(wanted)}, got {_got(value)}", remedy)
    return ABSENT


def _weighed(names: list[Any], members: list[Any]) -> str:
    """A list of names as the mapping of names to numbers that is wanted; empty where something else is."""
    numbers = any(get_origin(member) is dict and int in alternatives(get_args(member)[1]) for member in members)
    if not numbers or not all(isinstance(name, str) for name in names):
        return ""
    return f"{{{', '.join(f'{name}: 1' for name in names)}}}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _bound(document: Document, value: Any, message: str) -> tuple[str, str]:
    """msgspec's "Expected `int` >= 1" as problem and remedy."""
    bound = message.rpartition("`")[2].strip() if "`" in message else ""
    if "length >= 1" in message:
        return ("an empty list" if isinstance(value, list) else "empty"), "write a value, or remove the line"
    if "regex" in message:
        return f"{document.show(value)} is not written as it must be", f"it has to match {message.rpartition(' ')[2]}"
    return f"{document.show(value)} is out of bounds", f"write a number {bound}" if bound else _SEE


def _report_unknown(
    document: Document, value: dict[str, Any], known: Collection[str], where: Where, elsewhere: Mapping[str, str]
) -> None:
    for key in value:
        if key not in known:
            document.fault((*where, key), "unknown key", elsewhere.get(key) or nearest(key, known))


def _choices(members: list[Any]) -> list[str]:
    return [str(choice) for member in members if get_origin(member) is Literal for choice in get_args(member)]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _got(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    names: dict[type, str] = {str: "text", list: "a list", dict: "a mapping"}
    return names.get(type(value), "a number")

"""`${NAME}` and `${NAME:-default}` in the file's values; `$${` is a plain `${`."""

import re
from collections.abc import Collection, Mapping

import msgspec

_REFERENCE = re.compile(r"(\$)?\$\{([^{}]*)(\})?")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?", re.DOTALL)


class Filled(msgspec.Struct, frozen=True):
    """`text` with its variables in, the environment's values that it holds, and what was wrong (problem, remedy)."""

    text: str
    values: dict[str, str]
    faults: list[tuple[str, str]]


def fill(text: str, environment: Mapping[str, str], keep: Collection[str] = ()) -> Filled:
    """`keep` are names that stay as they are. `values` maps each value to its variable's name."""
    values: dict[str, str] = {}
    faults: list[tuple[str, str]] = []

    def replace(reference: re.Match[str]) -> str:
        escaped, inside, closed = reference.groups()
        if escaped:
            return reference[0][1:]
        match = _NAME.fullmatch(inside)
        if match is None or not closed:
            faults.append(("not a variable", "write ${NAME} or ${NAME:-default}, and $${ for a plain ${"))
            return ""
        name, given, default = match.groups()
        if name in keep:
            return reference[0]
        value = environment.get(name, "")
        if value:
            values[value] = name
        elif given is None:
            problem = f"the environment's {name} is empty" if name in environment else f"the environment has no {name}"
            faults.append((problem, f"export {name}, or give a default: ${{{name}:-value}}"))
        return value or default or ""

    return Filled(_REFERENCE.sub(replace, text), values, faults)

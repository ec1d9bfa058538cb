"""The YAML text as plain data: the line of everything, its variables filled in, and what is wrong with it as text."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from router.config.values import Fault

Path = tuple[str | int, ...]

VARIABLE = re.compile(r"\$(\$)?\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
ENGINE_VARIABLES = frozenset({"HOST", "KEY", "MODEL", "NAME", "PORT"})
"""Below a model's `options` these are the launcher's own (see `launchers/command.py`), not the environment's."""


def render(path: Path) -> str:
    """`("models", "qwen", "gpus", 1)` as `models.qwen.gpus[1]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


class Document(msgspec.Struct):
    """`data` is what the file says, `lines` where each path stands, `faults` what was wrong already."""

    data: Any
    lines: dict[Path, int]
    faults: list[Fault]

    def line(self, path: Path) -> int:
        """The line of `path`, or of its nearest parent that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def fault(self, path: Path, problem: str, remedy: str) -> None:
        self.faults.append(Fault(render(path), self.line(path), problem, remedy))


def parse(text: str, environment: Mapping[str, str]) -> Document:
    """Never raises: what cannot be read is a fault, and `data` is an empty mapping then."""
    document = Document({}, {}, [])
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        document.faults.append(Fault("", line, f"not YAML: {error.problem}", "mend the syntax at this line"))
        return document
    except (yaml.YAMLError, RecursionError) as error:
        document.faults.append(Fault("", 0, f"not YAML: {error}", "save the file as plain UTF-8 text"))
        return document
    if root is None:
        document.faults.append(Fault("", 1, "the file is empty", "declare at least one model under `models:`"))
        return document
    data = _Builder(document, environment).build(root, ())
    if isinstance(data, dict):
        document.data = data
    else:
        document.fault((), "the file must be a mapping", "start with `models:`")
    return document


class _Builder:
    """Walks the nodes once: values, lines, duplicate keys and variables."""

    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self.document = document
        self.environment = environment
        self.constructor = yaml.SafeLoader("")
        self.open: set[int] = set()

    def build(self, node: yaml.Node, path: Path) -> Any:
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self.open:
            self.document.fault(path, "an anchor that contains itself", "write the value out")
            return None
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
            assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - there is no other kind
            return self.scalar(node, path)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            self.constructor.flatten_mapping(node)
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.document.fault(path, "a key that is not a word", "write keys as plain words")
                continue
            key = key_node.value
            here = (*path, key)
            if key in data:
                self.document.faults.append(
                    Fault(
                        render(here),
                        key_node.start_mark.line + 1,
                        "stands twice",
                        f"first in line {self.document.line(here)}; keep one",
                    )
                )
                continue
            self.document.lines[here] = key_node.start_mark.line + 1
            data[key] = self.build(value_node, here)
        return data

    def scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = node.value
        if "${" in text:
            text = VARIABLE.sub(lambda match: self.variable(match, path), text)
            # A plain `${PORT}` is read as if its value stood in the file, so that it can be a number.
            plain = node.style is None
            tag: str = self.constructor.resolve(yaml.ScalarNode, text, (plain, not plain))  # type: ignore[no-untyped-call]
            node = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark)
        try:
            return self.constructor.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError) as error:
            problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error)
            self.document.fault(path, f"not a value: {problem}", "put it in quotes if it is text")
            return None

    def variable(self, match: re.Match[str], path: Path) -> str:
        escaped, name, default = match.groups()
        if escaped:
            return match[0][1:]
        if name in ENGINE_VARIABLES and len(path) > 2 and path[0] == "models" and path[2] == "options":
            return match[0]
        value = self.environment.get(name, "")
        if value or default is not None:
            return value or default
        self.document.fault(
            path, f"the environment has no {name}", f"export {name}, or give a default: ${{{name}:-value}}"
        )
        return ""

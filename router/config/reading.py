"""YAML text to a Document: one walk over the nodes, bounded, that finds values, lines, duplicates and variables.

Plain words are read by the core schema of YAML 1.2, as editors do: only `true` and `false` are booleans, so that `no`
and `on` stay text; dates and `1:30` are text; `010` is ten.
"""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import yaml

from launchers import LAUNCHERS
from router.config.document import ABSENT, Document
from router.config.faults import Where
from router.config.variables import fill

MOST_VALUES = 50_000
"""Values that a file may expand to. A file of a few lines can mean billions, by anchors that contain one another."""
DEEPEST = 32
ENGINE_VARIABLES = frozenset({"HOST", "KEY", "MODEL", "NAME", "PORT"})
"""Below a model's `options` these are the launcher's own (see `launchers/command.py`), not the environment's."""

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {"": None, "~": None, "true": True, "false": False}
_PLAIN, _TAG = "plain", "tag:yaml.org,2002:"
_KNOWN_TAGS = {_PLAIN, *(f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge"))}
_UNCLOSED = "what is opened here is never closed"
_SYNTAX: tuple[tuple[str, str, str], ...] = (
    (r"'\\t'", "a tab", "indent with spaces"),
    (
        r"mapping values are not allowed",
        "a second `: ` in one value",
        "put the value in quotes, mend the indents, or end the line above with the `:` it lacks",
    ),
    (r"undefined alias", "`*` begins an alias and no anchor has that name", "put the value in quotes if it is text"),
    (r"character '[@`%]'", "a value cannot begin with @, ` or %", "put it in quotes"),
    (r"stream end|end of stream", _UNCLOSED, "close the bracket or the quote"),
    (r"expected ',' or '[\]}]'", _UNCLOSED, "close the bracket, or put the missing comma"),
    (r"could not find expected ':'", "a line without `: `", "write `key: value`"),
    (r"another document", "a second document begins", "keep one, and remove the `---`"),
    (r"escape", "an escape that YAML does not know", r"use single quotes, or write \\ for a backslash"),
    (r"duplicate anchor", "an anchor stands twice", "give each its own name"),
)  # fmt: skip


class _Loader(yaml.SafeLoader):
    """Composes nodes whose plain scalars all have the tag `plain`."""

    yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}  # noqa: RUF012 - PyYAML's own name


class _TooMuch(Exception):
    """The file expands beyond the bounds."""


def parse(text: str, environment: Mapping[str, str]) -> Document:
    """Never raises: what cannot be read is a fault, and `data` is None then."""
    document = Document()
    root = _compose(document, text)
    if root is None:
        return document
    try:
        data = _Builder(document, environment).build(root, ())
    except _TooMuch as bound:
        document.fault((), str(bound), "write it out without so many anchors inside one another")
        return document
    if isinstance(data, dict):
        document.data = data
    elif not document.faults:
        document.fault((), "the file must be a mapping", "begin with `models:`", line=1)
    return document


def _compose(document: Document, text: str) -> yaml.Node | None:
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        _explain(document, error, text.splitlines())
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"not YAML: a character that no text has (U+{ord(text[error.position]):04X})"
        document.fault((), problem, "remove it", line=line)
        return None
    except RecursionError:
        document.fault((), "not YAML: too many levels in one another", "write it in fewer levels")
        return None
    except (ValueError, OverflowError):
        document.fault((), r"not YAML: an escape that is no character (\U…)", "use single quotes if it is text")
        return None
    if root is None:
        document.fault((), "the file is empty", "declare at least one model under `models:`", line=1)
    return root


def _explain(document: Document, error: yaml.MarkedYAMLError, lines: list[str]) -> None:
    said = error.problem or "it cannot be read"
    # What stands in quotes may be a piece of a secret.
    shown = re.sub(r"'[^']+'", lambda part: part[0] if len(part[0]) == 3 else "something", said)
    unknown = ("", shown, "mend the syntax at this line")
    _, problem, remedy = next((known for known in _SYNTAX if re.search(known[0], said)), unknown)
    mark = (error.context_mark or error.problem_mark) if problem == _UNCLOSED else error.problem_mark
    if (
        problem == _UNCLOSED
        and error.problem_mark
        and "${" in "".join(lines[error.problem_mark.line : error.problem_mark.line + 1])
    ):
        problem, remedy = "a variable in brackets, without quotes", 'write "${NAME}", in quotes'
    document.fault((), f"not YAML: {problem}", remedy, line=mark.line + 1 if mark else 0)


class _Builder:
    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self.document = document
        self.environment = environment
        self.open: set[int] = set()
        self.merged: dict[int, dict[str, tuple[yaml.ScalarNode, yaml.Node]]] = {}
        self.values = 0

    def build(self, node: yaml.Node, where: Where) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:
            raise _TooMuch(f"the file means more than {MOST_VALUES:,} values")
        if len(where) > DEEPEST:
            raise _TooMuch(f"more than {DEEPEST} levels in one another")
        self.document.lines.setdefault(where, node.start_mark.line + 1)
        if id(node) in self.open:
            self.document.fault(where, "an anchor that contains itself", "write the value out")
            return ABSENT
        if node.tag not in _KNOWN_TAGS:
            self.document.fault(where, "a tag (`!`) means nothing here", "put the value in quotes if it is text")
            return ABSENT
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, where)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(child, (*where, index)) for index, child in enumerate(node.value)]
            return self.scalar(node, where)
        finally:
            self.open.discard(id(node))

    def mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, (key_node, value_node) in self.pairs(node, where).items():
            here = (*where, key)
            self.document.lines[here] = key_node.start_mark.line + 1
            data[key] = self.build(value_node, here)
        return data

    def pairs(self, node: yaml.MappingNode, where: Where) -> dict[str, tuple[yaml.ScalarNode, yaml.Node]]:
        """The mapping's own keys, then those of `<<` that it does not have. Merged by key, so that it stays bounded."""
        if id(node) in self.merged:
            return self.merged[id(node)]
        self.merged[id(node)] = {}  # one that merges itself gets nothing from itself
        own: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        merges: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == _PLAIN and key_node.value == "<<":
                merges.append(value_node)
            elif self.usable(key_node, own, where):
                own[key_node.value] = (key_node, value_node)
        inherited = self.inherited(merges, where)
        self.merged[id(node)] = {**own, **{key: pair for key, pair in inherited.items() if key not in own}}
        return self.merged[id(node)]

    def usable(self, node: yaml.Node, own: Mapping[str, tuple[yaml.ScalarNode, yaml.Node]], where: Where) -> bool:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode):
            self.document.fault(where, "a key that is not a word", "write keys as plain words", line=line)
            return False
        here = (*where, node.value)
        if node.value in own:
            first = own[node.value][0].start_mark.line + 1
            self.document.fault(here, "stands twice", f"first in line {first}; keep one", line=line)
            return False
        if "${" in node.value:
            remedy = "write the key out: variables are filled into values alone"
            self.document.fault(here, "a variable in a key", remedy, line=line)
        elif not _is_text(node.value):
            self.document.fault(here, "a key with a character that no text has", "remove it", line=line)
        return True

    def inherited(self, merges: list[yaml.Node], where: Where) -> dict[str, tuple[yaml.ScalarNode, yaml.Node]]:
        """What `<<: *anchor` or `<<: [*one, *two]` bring; the first one wins."""
        lists = [merge.value if isinstance(merge, yaml.SequenceNode) else [merge] for merge in merges]
        found: dict[str, tuple[yaml.ScalarNode, yaml.Node]] = {}
        for node in itertools.chain(*lists):
            if isinstance(node, yaml.MappingNode):
                found = {**self.pairs(node, where), **found}
            else:
                line = node.start_mark.line + 1
                self.document.fault((*where, "<<"), "not a mapping", "merge mappings alone: `<<: *anchor`", line=line)
        return found

    def scalar(self, node: Any, where: Where) -> Any:
        text = self.filled(node.value, where) if "${" in node.value else node.value
        if text is None:
            return ABSENT
        if not _is_text(text):
            self.document.fault(where, "a character that no text has (NUL, or half of one)", "remove it")
            return ABSENT
        if node.tag == f"{_TAG}str" or node.style:
            return text
        # A plain `${PORT}` is read as if its value stood in the file, so that it can be a number.
        value = _plain(text)
        if not isinstance(value, str):
            self.document.texts[where] = text
        return value

    def filled(self, text: str, where: Where) -> str | None:
        """With its variables' values; None when one has none."""
        below_options = len(where) > 3 and where[0] == "models" and where[2] == "options"
        result = fill(text, self.environment, ENGINE_VARIABLES if below_options else ())
        for problem, remedy in result.faults:
            self.document.fault(where, problem, remedy)
        for value, name in result.values.items():
            self.document.filled.setdefault(where, set()).add(name)
            if value not in LAUNCHERS:  # no secret, and remedies name them
                self.document.hide(value, name)
        return None if result.faults else result.text


def _plain(text: str) -> Any:
    """A plain scalar by YAML 1.2's core schema."""
    if text.lower() in ("null", "true", "false") and text in (text.lower(), text.upper(), text.capitalize()):
        return _WORDS.get(text.lower())
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) and len(text) < 1000:
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan")) if _is_float(text) else text


def _is_float(text: str) -> bool:
    return len(text) < 1000 and _FLOAT.fullmatch(text) is not None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text

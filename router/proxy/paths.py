"""The paths of the data plane. What is not in this table is 404, so an engine's control endpoints cannot be reached.

Clients spell one path in many ways: with `/v1` or without, or twice where their base address has it already, below
`/anthropic`, or with the model in it. A request goes on with the table's own path, or rather the engine's, never with
the client's spelling.
"""

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

Body = Literal["json", "form", "either", "none", "websocket"]


class Path(msgspec.Struct, frozen=True):
    """`public` may hold `{id}`, which stands for what an earlier answer had as its `id`.

    `body`: where a request has `model`: at the top of a JSON document; in a field of a multipart form; in `either` of
    them, by what comes; nowhere; or, for a WebSocket, in the query. `beside`: servers have it beside `/v1`, not below.
    `owner`: its answers' ids are asked for later, at the engine that gave them. `events`: with `stream: true` its
    answer is a stream of events; `named`: they have names (Anthropic's); `usage`: they tell the tokens only if
    `stream_options` asks for it.
    """

    public: str
    body: Body = "json"
    methods: tuple[str, ...] = ("POST",)
    beside: bool = False
    owner: bool = False
    events: bool = False
    named: bool = False
    usage: bool = False

    def on(self, prefix: str) -> str:
        """The path on a server elsewhere whose base address ends in `prefix`: `/v1/x` is `prefix/x` there."""
        if self.beside:
            return prefix.removesuffix("/v1") + self.public
        return prefix + self.public.removeprefix("/v1")


_READ, _CHANGE = ("GET",), ("GET", "DELETE")

PATHS: dict[str, Path] = {
    path.public: path
    for path in (
        Path("/v1/chat/completions", events=True, usage=True),
        Path("/v1/completions", events=True, usage=True),
        Path("/v1/responses", owner=True, events=True),
        Path("/v1/responses/{id}", "none", _CHANGE),
        Path("/v1/responses/{id}/cancel", "none"),
        Path("/v1/responses/{id}/input_items", "none", _READ),
        Path("/v1/messages", events=True, named=True),
        Path("/v1/messages/count_tokens"),
        Path("/v1/embeddings"),
        Path("/v2/embed", beside=True),
        Path("/v1/rerank"),
        Path("/v2/rerank", beside=True),
        Path("/v1/score"),
        Path("/pooling", beside=True),
        Path("/classify", beside=True),
        Path("/tokenize", beside=True),
        Path("/detokenize", beside=True),
        Path("/apply-template", beside=True),
        Path("/infill", beside=True),
        Path("/v1/audio/transcriptions", "form"),
        Path("/v1/audio/translations", "form"),
        Path("/v1/audio/speech"),
        Path("/v1/realtime", "websocket", _READ),
        Path("/v1/images/generations", owner=True),
        Path("/v1/images/edits", "either", owner=True),
        Path("/v1/images/variations", "form", owner=True),
        Path("/v1/images/{id}/content", "none", _READ),
        Path("/v1/videos", "either", owner=True),
        Path("/v1/videos/{id}", "none", _CHANGE),
        Path("/v1/videos/{id}/content", "none", _READ),
    )
}

OPEN = frozenset({"/health", "/ready", "/v1/cluster/auth", "/v1/v1/cluster/auth"})
"""Paths that need no key: health, and how Xinference's clients ask whether there are keys, whatever their address."""


class Route(msgspec.Struct, frozen=True):
    """Where a client's path leads. `model` and `id` are what stands in it, "" where nothing does."""

    path: Path
    model: str = ""
    id: str = ""


_OTHER_NAMES = {"/v1/rerank": ("/reranking",)}
_ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens")
_ID = r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}"
_HOLDERS = re.compile(r"/(?:(?:v1/)?engines|openai/deployments)/(.+)", re.DOTALL)


def _spellings(path: Path) -> Iterator[str]:
    """All that lead to it."""
    for name in (path.public, *_OTHER_NAMES.get(path.public, ())):
        short = name.removeprefix("/v1")
        yield from (name, short, f"/v1{short}", f"/v1/v1{short}")
        if name in _ANTHROPIC:
            yield from (f"/anthropic{short}", f"/anthropic/v1{short}", f"/anthropic/v1/v1{short}")


_FIXED = {name: Route(path) for path in PATHS.values() if "{id}" not in path.public for name in _spellings(path)}
_WITH_ID = [
    (
        re.compile("|".join(re.escape(name).replace(r"\{id\}", f"({_ID})") for name in sorted(set(_spellings(path))))),
        path,
    )
    for path in PATHS.values()
    if "{id}" in path.public
]

SPELLINGS = frozenset(_FIXED)
"""Every path without a model or an id in it that leads to an engine."""


def find(path: str) -> Route | None:
    """Where `path`, its escapes undone, leads."""
    return _FIXED.get(path) or _FIXED.get(path.removesuffix("/")) or _find_with_id(path) or _find_with_model(path)


def _find_with_id(path: str) -> Route | None:
    for pattern, public in _WITH_ID:
        match = pattern.fullmatch(path)
        if match is not None:
            return Route(public, id=next(filter(None, match.groups())))
    return None


def _find_with_model(path: str) -> Route | None:
    """The model's name may hold slashes: the longest end that is a path of its own is not part of it."""
    match = _HOLDERS.fullmatch(path)
    if match is None:
        return None
    rest, at = match[1], 0
    while (at := rest.find("/", at + 1)) > 0:
        found = _FIXED.get(rest[at:])
        if found is not None and found.path.body in ("json", "form", "either"):
            return Route(found.path, model=rest[:at])
    return None

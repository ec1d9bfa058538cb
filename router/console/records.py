"""The list of models, with what every client's kind of list says: OpenAI's, Xinference's, Anthropic's, vLLM's."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router.catalog import Catalog, Group, Model
from router.fleet.facts import Facts

Record = dict[str, Any]

_TYPES = {"chat": "LLM", "transcription": "audio", "speech": "audio"}
"""Xinference's names of kinds, where they are not ours."""
MODEL_TYPES = ("LLM", "embedding", "rerank", "audio", "image", "video")
_ABILITIES: Mapping[str, tuple[str, ...]] = {
    "embedding": ("embed",),
    "rerank": ("rerank",),
    "transcription": ("audio2text",),
    "speech": ("text2audio",),
    "video": ("text2video",),
}
_IMAGES = (
    ("/v1/images/generations", "text2image"),
    ("/v1/images/variations", "image2image"),
    ("/v1/images/edits", "inpainting"),
)


class Records:
    """The records of a catalogue. `facts` are those of a model, by its name in the file."""

    def __init__(self, catalog: Catalog, facts: Callable[[str], Awaitable[Facts]]) -> None:
        self._catalog, self._facts = catalog, facts

    async def of(self, name: str) -> Record:
        """Raises ModelNotFound."""
        entry = self._catalog.entry(name)
        if isinstance(entry, Model):
            return record(name, entry, await self._facts(entry.name))
        members = [self._catalog.resolve(member) for member, _ in entry.members]
        facts = await asyncio.gather(*(self._facts(model.name) for model in members))
        return group_record(name, entry, [record(name, *pair) for pair in zip(members, facts, strict=True)])

    async def all(self) -> list[Record]:
        """Of every name, in the file's order."""
        return await asyncio.gather(*map(self.of, self._catalog.names))

    async def answer_all(self, request: Request) -> Response:
        """`?type=` and `?ability=` leave out the others; each may stand several times, or name several with commas."""
        wanted = _words(request.query_params.getlist("type"))
        abilities = _words(request.query_params.getlist("ability"))
        found = [each for each in await self.all() if _is_wanted(each, wanted, abilities)]
        body: Record = {"object": "list", "data": [_as_asked(request, each) for each in found]}
        if _is_anthropic(request):
            body |= {"first_id": None, "last_id": None, "has_more": False}
            if found:
                body |= {"first_id": found[0]["id"], "last_id": found[-1]["id"]}
        return JSONResponse(body)

    async def answer_one(self, request: Request) -> Response:
        return JSONResponse(_as_asked(request, await self.of(request.path_params["name"])))


def record(name: str, model: Model, facts: Facts) -> Record:
    """A model by one of its names. What is not known is left out; clients have defaults for what is not there, and none
    for null. But Dify takes a record without `model_format` for a format of 2023, and no client does without
    `model_type`, `model_name` and `model_ability`. `root` is the name that an alias leads to."""
    info = model.manner.info
    known = {
        "model_family": facts.family,
        "quantization": facts.quantization,
        **_lengths(info.get("context_length", facts.context), model.kind),
        "dimensions": facts.dimensions,
    }
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": model.engine,
        "root": model.name,
        "kind": model.kind,
        "ready": model.ready,
        "model_type": _TYPES.get(model.kind, model.kind),
        "model_name": model.name,
        "model_ability": list(_abilities(model, facts)),
        "model_format": facts.format,
        **{field: value for field, value in known.items() if value is not None},
        "replica": facts.replicas,
        **info,
    }


def _lengths(context: int | None, kind: str) -> Record:
    """Each client's word for how long a text may be."""
    return {
        "context_length": context,
        "max_model_len": context if kind == "chat" else None,
        "max_tokens": context,
    }


def group_record(name: str, group: Group, members: Sequence[Record]) -> Record:
    """What holds of all its members, of which it has at least one: the first one's record, the least of their numbers,
    the abilities that all have."""
    first, *others = members
    info = group.manner.info
    told = _lengths(info["context_length"], group.kind) if "context_length" in info else {}
    least = {
        field: min(each[field] for each in members)
        for field in ("context_length", "max_model_len", "max_tokens")
        if all(isinstance(each.get(field), int) for each in members)
    }
    shared = {field: first[field] for field in first if all(each.get(field) == first[field] for each in others)}
    abilities = [word for word in first["model_ability"] if all(word in each["model_ability"] for each in others)]
    needed = {field: first[field] for field in ("model_type", "model_format", "kind")}
    return {
        **shared,
        **needed,
        **least,
        **{field: value for field, value in told.items() if value is not None},
        "created": group.created,
        "owned_by": "router",
        "root": group.name,
        "model_name": group.name,
        "ready": any(each["ready"] for each in members),
        "model_ability": abilities,
        "replica": sum(each["replica"] for each in members),
        **info,
        "id": name,
    }


def _abilities(model: Model, facts: Facts) -> Iterable[str]:
    """`generate` stands for a model that cannot chat: Dify asks each that has it for completions."""
    if model.kind == "image":
        return [ability for path, ability in _IMAGES if model.serves(path)]
    if model.kind != "chat":
        return _ABILITIES[model.kind]
    found = {"tools": facts.tools, "vision": facts.vision, "audio": facts.audio, "reasoning": facts.reasoning}
    return ["chat" if facts.chats else "generate", *(ability for ability, has in found.items() if has)]


def _is_wanted(each: Record, types: set[str], abilities: set[str]) -> bool:
    own = {str(each["model_type"]).lower(), str(each["kind"]).lower()}
    return (not types or bool(own & types)) and abilities <= {str(word).lower() for word in each["model_ability"]}


def _words(given: Iterable[str]) -> set[str]:
    return {word.strip().lower() for text in given for word in text.split(",") if word.strip()}


def _is_anthropic(request: Request) -> bool:
    return "anthropic-version" in request.headers


def _as_asked(request: Request, each: Record) -> Record:
    """With Anthropic's fields, for its clients."""
    if not _is_anthropic(request):
        return each
    created = datetime.fromtimestamp(each["created"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**each, "type": "model", "display_name": each["id"], "created_at": created}

"""Requests to rerank: Cohere's two forms, Jina's, TEI's and Xinference's become the one that the engine takes."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from launchers.base import Dialect
from router.errors import InvalidRequest
from router.proxy.dialects import rerank_answer
from router.proxy.dialects.adapter import Adapter, NotUnderstood, Wants
from router.proxy.dialects.members import MAX_ITEMS, Members, items, opening, raw, read_body, taken, write

# How the answer shall look is the router's part: these are not sent on. `rank_fields` and `return_len` mean nothing to
# any engine, and `kwargs` is a string in which xinference-client repeats what stands beside it.
_OF_THE_ANSWER = frozenset({"return_documents", "return_text", "return_len", "rank_fields", "kwargs"})


class _Text(msgspec.Struct):
    text: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    content: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_read_text = msgspec.json.Decoder(_Text).decode


class Rerank(msgspec.Struct, frozen=True):
    bodies: tuple[bytes]
    asked: rerank_answer.Asked
    whole: ClassVar[bool] = True

    def answer(self, answers: Sequence[bytes]) -> bytes:
        try:
            return rerank_answer.answer(answers[0], self.asked)
        except (msgspec.DecodeError, RecursionError) as error:
            raise NotUnderstood(f"the engine's answer is no rerank: {error}") from None


def adapt(body: bytes, takes: frozenset[str] | None, dialect: Dialect, wants: Wants) -> Adapter:
    members = taken(read_body(body), None, nulls=False)
    source = "documents" if "documents" in members else "texts"
    documents = _documents(members.get(source), source)
    top_n = _top_n(members.pop("top_n", None), len(documents))
    raw_scores = members.get("raw_scores")
    asked = rerank_answer.Asked(
        documents=documents,
        top_n=top_n,
        texts=source == "texts",
        returns=_returns(members, source),
        squash=wants.normalize_scores and dialect.logits and not (raw_scores and opening(raw_scores) == b"t"),
        model=members.get("model"),
    )
    sent = _sent(members, source, documents, "texts" if dialect.texts else "documents")
    if top_n and not dialect.texts:
        sent["top_n"] = raw(top_n)
    return Rerank((write(taken(sent, takes, nulls=False)),), asked)


def _sent(members: Members, source: str, documents: Sequence[msgspec.Raw], target: str) -> Members:
    """What the engine is told, in the client's order; the documents are its own bytes, but for Cohere's objects."""
    query = members.get("query")
    if query is None or (text := _text(query)) is None:
        raise _invalid("`query` must be a string", "query")
    of_documents = ("documents", "texts")
    sent: Members = {}
    for name, value in members.items():
        if name == source:
            sent[target] = raw(documents)
        elif name == "query":
            sent[name] = text
        elif name not in _OF_THE_ANSWER and name not in of_documents:
            sent[name] = value
    return sent


def _documents(value: msgspec.Raw | None, name: str) -> list[msgspec.Raw]:
    if value is None:
        raise _invalid("`documents` is missing; send the texts to rank as a list of strings", "documents")
    if opening(value) != b"[":
        raise _invalid(f"`{name}` must be a list of strings", name)
    found = items(value)
    if found is None:
        raise _invalid(f"`{name}` is too long; send at most {MAX_ITEMS} texts", name)
    documents = [_text(item) for item in found]
    if not documents:
        raise _invalid(f"`{name}` is empty; send at least one text to rank", name)
    texts = [text for text in documents if text is not None]
    if len(texts) < len(documents):
        at = documents.index(None)
        raise _invalid(f"`{name}[{at}]` must be a string, or an object with a `text`", f"{name}[{at}]")
    return texts


def _text(value: msgspec.Raw) -> msgspec.Raw | None:
    """The string in a query or a document; None if there is none. What models for pictures take goes as it is: an
    object with `content` (vLLM's) or a list of parts (SGLang's)."""
    first = opening(value)
    if first == b"{":
        found = _read_text(value)
        if isinstance(found.text, msgspec.Raw):
            return found.text if opening(found.text) == b'"' else None
        return None if found.content is msgspec.UNSET else value
    return value if first in (b'"', b"[") else None


def _top_n(value: msgspec.Raw | None, documents: int) -> int | None:
    """None: all of them, as it is for what is no number above 0."""
    try:
        wanted = msgspec.json.decode(value, type=int) if value is not None else 0
    except msgspec.ValidationError:
        return None
    return min(wanted, documents) if wanted > 0 else None


def _returns(members: Members, source: str) -> bool:
    """Whether the texts shall be in the answer: TEI's clients have to ask for them, others not to."""
    if source == "texts":
        return bytes(members.get("return_text", msgspec.Raw(b"false"))) == b"true"
    # RAGFlow sends it as a string.
    return bytes(members.get("return_documents", msgspec.Raw(b"true"))).strip(b'"').lower() != b"false"


def _invalid(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_rerank", param=param)

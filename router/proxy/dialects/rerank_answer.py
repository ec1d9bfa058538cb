"""Answers to rerank: whatever the engine's form, the client gets the one that it knows."""

import math
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec

from router.proxy.dialects.adapter import NotUnderstood
from router.proxy.dialects.members import Members, opening, raw, read, write


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the client asked for. `documents`: JSON, strings most often. `top_n`: None for all. `texts`: it is TEI's
    client. `returns`: the documents shall be in the answer. `squash`: the scores come as logits, and shall be within 0
    to 1. `model`: as it named it."""

    documents: Sequence[msgspec.Raw]
    top_n: int | None
    texts: bool
    returns: bool
    squash: bool
    model: msgspec.Raw | None


class _Counts(msgspec.Struct):
    """Of tokens, by the names that engines give them."""

    prompt_tokens: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    total_tokens: float | None = None


class _Meta(msgspec.Struct):
    tokens: _Counts | None = None
    billed_units: _Counts | None = None


class _Result(msgspec.Struct):
    index: int
    relevance_score: float | None = None
    score: float | None = None
    meta_info: _Counts | None = None


class _Ranked(msgspec.Struct):
    index: int
    score: float


_read = msgspec.json.Decoder(Members | list[_Result]).decode
_read_results = msgspec.json.Decoder(list[_Result]).decode
_read_counts = msgspec.json.Decoder(_Counts | None).decode
_read_meta = msgspec.json.Decoder(_Meta | None).decode


def answer(given: bytes, asked: Asked) -> bytes:
    """Raises msgspec.DecodeError or NotUnderstood for an answer that is no rerank."""
    found = _read(given)
    if isinstance(found, list):
        members, results = {}, found
    elif "results" in found:
        members, results = found, _read_results(found["results"])
    else:
        raise NotUnderstood("the engine's answer is no rerank: it has no `results`")
    ranked = _ranked(results, asked)
    if asked.texts:
        return write([_tei(one, asked) for one in ranked])
    return write(_envelope(members, _tokens(members, results), [_result(one, asked) for one in ranked], asked.model))


def _ranked(results: Sequence[_Result], asked: Asked) -> list[_Ranked]:
    """The best first, and those that score the same in the order of the documents."""
    ranked = [_Ranked(one.index, _score(one)) for one in results]
    if not all(0 <= one.index < len(asked.documents) for one in ranked):
        raise NotUnderstood("the engine's answer has an `index` without a document")
    # Before the logits are squashed: beyond about 37 they are all 1.0.
    ranked.sort(key=lambda one: (-one.score, one.index))
    if asked.squash:
        ranked = [_Ranked(one.index, sigmoid(one.score)) for one in ranked]
    return ranked[: asked.top_n]


def _score(result: _Result) -> float:
    score = result.score if result.relevance_score is None else result.relevance_score
    if score is None:
        raise NotUnderstood("the engine's answer has a result without a score")
    return score


def sigmoid(logit: float) -> float:
    # exp of a large number overflows, so it is only taken of negative ones.
    small = math.exp(-abs(logit))
    return 1 / (1 + small) if logit >= 0 else small / (1 + small)


def _tei(one: _Ranked, asked: Asked) -> dict[str, Any]:
    text = {"text": asked.documents[one.index]} if asked.returns else {}
    return {"index": one.index, **text, "score": one.score}


def _result(one: _Ranked, asked: Asked) -> dict[str, Any]:
    """`document` is there in any case, null if the client wants none: Xinference's clients read it by its name."""
    document = _document(asked.documents[one.index]) if asked.returns else None
    return {"index": one.index, "relevance_score": one.score, "document": document}


def _document(document: msgspec.Raw) -> Any:
    return {"text": document} if opening(document) == b'"' else document


def _envelope(
    members: Members, tokens: tuple[int, int] | None, results: list[dict[str, Any]], model: msgspec.Raw | None
) -> dict[str, Any]:
    """What the engine said besides stays. Without a count of tokens none is made up: clients count by themselves."""
    envelope: dict[str, Any] = {"id": raw(f"rerank-{uuid4().hex}")}
    if model is not None:
        envelope["model"] = model
    envelope |= members
    envelope["results"] = results
    if tokens is not None:
        taken, given = tokens
        envelope["meta"] = _object(members, "meta") | {"tokens": raw({"input_tokens": taken, "output_tokens": given})}
        usage = _object(members, "usage")
        envelope["usage"] = usage | {"prompt_tokens": raw(taken), "total_tokens": raw(taken + given)}
    return envelope


def _object(members: Members, name: str) -> Members:
    value = members.get(name)
    return read(value) if value is not None and opening(value) == b"{" else {}


def _tokens(members: Members, results: Sequence[_Result]) -> tuple[int, int] | None:
    """Tokens in and out, if the engine says so anywhere: in `usage` (most), `meta` (Cohere's form), `tokens`, or with
    each result (SGLang)."""
    meta = _read_meta(members["meta"]) if "meta" in members else None
    places = [
        _read_counts(members["usage"]) if "usage" in members else None,
        *((meta.tokens, meta.billed_units) if meta else ()),
        _read_counts(members["tokens"]) if "tokens" in members else None,
    ]
    for counts in places:
        if counts is not None and (found := _counted(counts)) is not None:
            return found
    each = [_counted(one.meta_info) for one in results if one.meta_info is not None]
    known = [one for one in each if one is not None]
    if not known or len(known) < len(results):
        return None
    return sum(one[0] for one in known), sum(one[1] for one in known)


def _counted(counts: _Counts) -> tuple[int, int] | None:
    given = counts.output_tokens or 0
    taken = counts.input_tokens if counts.prompt_tokens is None else counts.prompt_tokens
    if taken is None and counts.total_tokens is not None:
        taken = counts.total_tokens - given
    return None if taken is None else (int(taken), int(given))

"""Requests for embeddings: floats where the engine has no base64, texts for token numbers, parts of a long list."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import msgspec

from launchers.base import Dialect
from router.errors import InvalidRequest
from router.proxy.dialects import embeddings_answer, tokens
from router.proxy.dialects.adapter import Adapter, Changed, NotUnderstood, Wants
from router.proxy.dialects.members import MAX_ITEMS, Members, items, opening, raw, read_body, taken, write

TextOf = Callable[[Sequence[int]], str]
"""Raises ValueError for a number that is no token."""

MAX_PARTS = 10_000
"""Requests to the engine for one of a client's."""

_NUMBER = {bytes([byte]) for byte in b"-0123456789"}
_ITEMS = {b'"', b"["}
_BASE64 = msgspec.Raw(b'"base64"')
_read_tokens = msgspec.json.Decoder(list[int]).decode


class Parts(Sequence[bytes]):
    """Requests for `limit` of the texts each, made when they are asked for: what else the client `sent` is in each."""

    def __init__(self, sent: Members, texts: Sequence[msgspec.Raw], limit: int) -> None:
        self._sent, self._texts, self._limit = sent, texts, limit

    def __len__(self) -> int:
        return (len(self._texts) + self._limit - 1) // self._limit

    def __getitem__(self, at: int) -> bytes:  # type: ignore[override]  # nobody asks for a slice
        part = self._texts[at * self._limit : (at + 1) * self._limit]
        if not part:
            raise IndexError(at)
        return write({**self._sent, "input": raw(part)})


class Embeddings(msgspec.Struct, frozen=True):
    """`counts`: the inputs in each of `bodies`. `base64`: the engine's floats are to be encoded."""

    bodies: Sequence[bytes]
    counts: Sequence[int]
    base64: bool
    whole: ClassVar[bool] = True

    def answer(self, answers: Sequence[bytes]) -> bytes:
        try:
            return embeddings_answer.answer(answers, self.counts, base64=self.base64)
        except (msgspec.DecodeError, RecursionError) as error:
            raise NotUnderstood(f"the engine's answer holds no embeddings: {error}") from None


def adapt(
    body: bytes, takes: frozenset[str] | None, dialect: Dialect, wants: Wants, text_of: TextOf = tokens.text_of
) -> Adapter | None:
    limit = min((limit for limit in (wants.max_inputs, dialect.max_inputs) if limit is not None), default=None)
    numbers = dialect.tokens and not wants.decode_openai_tokens
    if numbers and dialect.base64 and limit is None and takes is None and b"null" not in body:
        return None
    members = read_body(body)
    sent = taken(members, takes, nulls=False)
    base64 = not dialect.base64 and sent.get("encoding_format") == _BASE64
    if base64:
        del sent["encoding_format"]  # floats are every engine's default
    inputs = _inputs(sent.get("input"))
    texts = inputs if numbers else _texts(inputs, text_of if wants.decode_openai_tokens else None)
    if texts is not inputs:
        sent["input"] = texts[0] if len(texts) == 1 else raw(texts)
    if limit is not None and len(texts) > limit:
        parts = Parts(sent, texts, limit)
        if len(parts) > MAX_PARTS:
            raise _invalid(f"`input` is {len(texts)} texts; send at most {MAX_PARTS * limit}")
        return Embeddings(parts, [min(limit, len(texts) - at) for at in range(0, len(texts), limit)], base64)
    if base64:
        return Embeddings((write(sent),), (len(texts),), base64)
    return None if texts is inputs and len(sent) == len(members) else Changed((write(sent),))


def _inputs(value: msgspec.Raw | None) -> list[msgspec.Raw]:
    """One for each vector: a string or a list of token numbers. None for what is not OpenAI's (vLLM takes chats)."""
    if value is None or opening(value) not in _ITEMS:
        return []
    if opening(value) == b'"':
        return [value]
    if bytes(value)[1:].lstrip()[:1] in _NUMBER:
        return [value]
    found = items(value)
    if found is None:
        raise _invalid(f"`input` is too long; send at most {MAX_ITEMS} texts")
    return found if {opening(item) for item in found} <= _ITEMS else []


def _texts(inputs: list[msgspec.Raw], text_of: TextOf | None) -> list[msgspec.Raw]:
    """The same list if there are no token numbers in it."""
    if all(opening(item) == b'"' for item in inputs):
        return inputs
    if text_of is None:
        raise _invalid(
            "`input` is token numbers, and this model takes text only; send text (LangChain: "
            "check_embedding_ctx_length=False), or set `decode_openai_tokens: true` for the model in the router's file"
        )
    return [item if opening(item) == b'"' else raw(_decoded(item, text_of)) for item in inputs]


def _decoded(item: msgspec.Raw, text_of: TextOf) -> str:
    try:
        return text_of(_read_tokens(item))
    except ValueError:  # msgspec's are too
        raise _invalid("`input` holds something that is no token number of cl100k_base") from None


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_input", param="input")

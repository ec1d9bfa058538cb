"""What an answer says: its text or its vector, whose it is, and whether it came to its end or to an error."""

from typing import Any

import msgspec

NEAR = 1e-3
"""How far a number of a vector may be from the bare engine's: what is computed beside it changes the last digits."""
FAILURE = ("message", "type", "code")


class Answer(msgspec.Struct, frozen=True):
    """`ids` and `names`: all that it gives as `id` and `model`. `error` is OpenAI's envelope, where there is one."""

    text: str = ""
    vector: tuple[float, ...] = ()
    ids: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    ended: bool = False
    error: dict[str, Any] | None = None

    def matches(self, right: "Answer") -> bool:
        return self.text == right.text and self.distance(right) < NEAR

    def begins(self, right: "Answer") -> bool:
        """Whether it is right as far as it goes."""
        return right.text.startswith(self.text)

    def distance(self, other: "Answer") -> float:
        if len(self.vector) != len(other.vector):
            return float("inf")
        return max((abs(a - b) for a, b in zip(self.vector, other.vector, strict=True)), default=0.0)


def read(path: str, body: bytes, *, streams: bool) -> Answer:
    """Raises ValueError where the body is none of what OpenAI's API sends."""
    try:
        if streams and not body.startswith(b"{"):
            return _stream(body)
        document = msgspec.json.decode(body)
        if "error" in document:
            return Answer(error=_envelope(document))
        if path == "/v1/embeddings":
            (item,) = document["data"]
            return Answer(vector=tuple(item["embedding"]), names=frozenset({document["model"]}), ended=True)
        (choice,) = document["choices"]
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        return Answer(text, (), frozenset({document["id"]}), frozenset({document["model"]}), ended=True)
    except (KeyError, TypeError, IndexError, msgspec.DecodeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _stream(body: bytes) -> Answer:
    """An engine may die between `[DONE]` and the end of its answer; the error that then follows is not to be missed."""
    text, ended = "", False
    ids: set[str] = set()
    names: set[str] = set()
    *events, rest = body.split(b"\n\n")
    for event in events:
        if not event.startswith(b"data: "):
            raise ValueError(f"an event of a stream is {event[:200]!r}")
        if event == b"data: [DONE]":
            ended = True
            continue
        document = msgspec.json.decode(event[6:])
        if "error" in document:
            return Answer(text, (), frozenset(ids), frozenset(names), error=_envelope(document))
        if ended:
            raise ValueError("something follows the end of a stream")
        (choice,) = document["choices"]
        text += choice.get("text") or choice.get("delta", {}).get("content") or ""
        ids.add(document["id"])
        names.add(document["model"])
    return Answer(text, (), frozenset(ids), frozenset(names), ended=ended and not rest)


def _envelope(document: dict[str, Any]) -> dict[str, Any]:
    error = document["error"]
    if not all(isinstance(error[name], str) and error[name] for name in FAILURE):
        raise ValueError(f"an error without its {FAILURE}: {document}")
    return dict(error)

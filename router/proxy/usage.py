"""How many tokens an engine says an answer took: where that stands, what it says, and how to have it said."""

import re

import msgspec

from router.proxy.dialects import members

REACH = 2048
"""Bytes at an answer's ends in which its `usage` stands, and that it may take; the middle of a large one is not
searched."""
_KEYS = (b'"usage"', b'"meta"')
"""OpenAI's and Anthropic's, and the one of Cohere's and Xinference's reranking."""

_COUNT = rb'"\s*+:\s*+(\d{1,12})'
_PROMPT = re.compile(rb'"(?:prompt_tokens|input_tokens)' + _COUNT)
_CACHED = re.compile(rb'"(?:cache_read_input_tokens|cache_creation_input_tokens)' + _COUNT)
_COMPLETION = re.compile(rb'"(?:completion_tokens|output_tokens)' + _COUNT)
_USUAL = re.compile(
    rb'"usage"\s*+:\s*+\{\s*+"(?:prompt|input)_tokens' + _COUNT + rb'\s*+,\s*+"(?:completion|output)_tokens' + _COUNT
)
"""As OpenAI's servers write it, found in a fifth of the time."""
_TIMINGS = re.compile(rb'"(cache_n|prompt_n|predicted_n)' + _COUNT)
"""Of a prompt's tokens llama.cpp counts those apart that it had kept."""
_TOTAL = re.compile(rb'"total_tokens' + _COUNT)

_decode_options = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode


def usage_part(data: bytes) -> bytes:
    """What a piece of an answer says of its usage, b"" if nothing."""
    for key in _KEYS:
        at = data.rfind(key, -REACH)
        if at < 0:
            at = data.find(key, 0, REACH)
        if at >= 0:
            return data[at : at + REACH]
    return b""


def first_usage(events: bytes) -> bytes:
    """The first `usage` of these events."""
    at = events.find(b'"usage"')
    return events[at : at + REACH]


def last_usage(events: bytes) -> bytes:
    """The last `usage` of these events."""
    at = events.rfind(b'"usage"')
    return events[at : at + REACH]


def timings_part(events: bytes) -> bytes:
    """llama.cpp's `timings` in these events."""
    at = events.rfind(b'"timings"')
    return events[at : at + REACH] if at >= 0 else b""


def tokens(part: bytes) -> tuple[int | None, int | None]:
    """Prompt's and completion's, from the `usage` or `meta` in this part of an answer; of several each from the last
    that says it, as Anthropic's streams tell the prompt's at their start and the completion's at their end. A text that
    only speaks of such a thing has its quotes escaped, so it is not taken for one."""
    prompt = completion = None
    if part.startswith(b'"timings"'):
        counts = {name: int(count) for name, count in _TIMINGS.findall(part)}
        return counts.get(b"cache_n", 0) + counts.get(b"prompt_n", 0), counts.get(b"predicted_n")
    if part.count(b'"usage"') == 1 and b"cache" not in part and (usual := _USUAL.search(part)) is not None:
        return int(usual[1]), int(usual[2])
    for said in reversed(_said(part)):
        if prompt is None:
            prompt = _prompt(said)
        if completion is None and (match := _COMPLETION.search(said)):
            completion = int(match[1])
    return prompt, completion


def _said(part: bytes) -> list[bytes]:
    """The usages there are. One of Cohere's has what was billed, too, which need not be what was used."""
    usages = part.split(b'"usage"')[1:]
    if usages:
        return usages
    start = part.rfind(b'"meta"')
    return [] if start < 0 else [part[max(start, part.rfind(b'"tokens"', start)) :]]


def _prompt(said: bytes) -> int | None:
    """With what the engine had kept of it, which Anthropic's `input_tokens` are without. An embedding's or reranking's
    `total_tokens` are the prompt's, where it says nothing else."""
    match = _PROMPT.search(said)
    if match is not None:
        return int(match[1]) + sum(map(int, _CACHED.findall(said)))
    total = _TOTAL.search(said)
    return int(total[1]) if total is not None and _COMPLETION.search(said) is None else None


def is_usage_alone(event: object) -> bool:
    """Whether a decoded event of a chat tells the usage and nothing else, as the last one does that is asked for with
    `include_usage`."""
    match event:
        case {"choices": [], "usage": {}}:
            return True
    return False


def with_usage(body: bytes, options: bytes) -> bytes | None:
    """A request for a stream that asks for its usage, too; None where the client asks for it itself, or what it asks is
    for the engine to refuse.

    `body` is a JSON object that has been checked and is not empty, `options` its `stream_options` as they stand there,
    b"" if there are none.
    """
    if not options:
        start = body.index(b"{") + 1
        return b'%b"stream_options":{"include_usage":true},%b' % (body[:start], body[start:])
    try:
        asked = _decode_options(options) or {}
    except msgspec.ValidationError:
        return None
    if bytes(asked.get("include_usage", b"null")) not in (b"null", b"false"):
        return None
    told = {"stream_options": members.raw({**asked, "include_usage": True})}
    return members.write(members.read_body(body) | told)

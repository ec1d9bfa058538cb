"""The paths of the data plane. What is not in this table is 404, so an engine's control endpoints cannot be reached."""

import msgspec


class Path(msgspec.Struct, frozen=True):
    """`form`: the body is a multipart form and `model` one of its fields; else JSON, with `model` at the top."""

    public: str
    form: bool = False


PATHS: dict[str, Path] = {
    path.public: path
    for path in (
        Path("/v1/chat/completions"),
        Path("/v1/completions"),
        Path("/v1/responses"),
        Path("/v1/messages"),
        Path("/v1/embeddings"),
        Path("/v1/rerank"),
        Path("/rerank"),
        Path("/v2/rerank"),
        Path("/v1/score"),
        Path("/tokenize"),
        Path("/detokenize"),
        Path("/v1/audio/transcriptions", form=True),
        Path("/v1/audio/translations", form=True),
        Path("/v1/audio/speech"),
        Path("/v1/images/generations"),
        Path("/v1/images/edits", form=True),
        Path("/v1/images/variations", form=True),
    )
}

OPEN = frozenset({"/health", "/ready"})
"""Paths that need no key."""

"""The paths of the data plane. What is not in this table is 404, so an engine's control endpoints cannot be reached."""

import msgspec


class Path(msgspec.Struct, frozen=True):
    """`form`: the body is a multipart form and `model` one of its fields; else JSON, with `model` at the top.
    `beside`: servers have it beside `/v1`, not below."""

    public: str
    form: bool = False
    beside: bool = False

    def on(self, prefix: str) -> str:
        """The path on a server elsewhere whose base address ends in `prefix`: `/v1/x` is `prefix/x` there."""
        if self.beside:
            return prefix.removesuffix("/v1") + self.public
        return prefix + self.public.removeprefix("/v1")


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
        Path("/v2/rerank", beside=True),
        Path("/v1/score"),
        Path("/tokenize", beside=True),
        Path("/detokenize", beside=True),
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

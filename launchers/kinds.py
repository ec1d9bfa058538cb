"""The public paths that make sense for each kind of model, for engines that serve them under their own names."""

from collections.abc import Mapping

from launchers.base import Kind

KIND_PATHS: Mapping[Kind, tuple[str, ...]] = {
    "chat": (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/tokenize",
        "/detokenize",
    ),
    "embedding": ("/v1/embeddings", "/tokenize", "/detokenize"),
    "rerank": ("/v1/rerank", "/rerank", "/v2/rerank", "/v1/score", "/tokenize", "/detokenize"),
    "transcription": ("/v1/audio/transcriptions", "/v1/audio/translations"),
    "speech": ("/v1/audio/speech",),
    "image": ("/v1/images/generations", "/v1/images/edits", "/v1/images/variations"),
}
PUBLIC_PATHS = frozenset(path for paths in KIND_PATHS.values() for path in paths)

"""The public paths that make sense for each kind of model, for engines that serve them under their own names."""

from collections.abc import Mapping

from launchers.base import Kind

_TOKENS = ("/tokenize", "/detokenize")
KIND_PATHS: Mapping[Kind, tuple[str, ...]] = {
    "chat": (
        *("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/messages/count_tokens"),
        *("/v1/responses", "/v1/responses/{id}", "/v1/responses/{id}/cancel", "/v1/responses/{id}/input_items"),
        *("/apply-template", "/infill", *_TOKENS),
    ),
    "embedding": ("/v1/embeddings", "/v2/embed", "/pooling", *_TOKENS),
    "rerank": ("/v1/rerank", "/v2/rerank", "/v1/score", "/classify", *_TOKENS),
    "transcription": ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/realtime"),
    "speech": ("/v1/audio/speech",),
    "image": ("/v1/images/generations", "/v1/images/edits", "/v1/images/variations", "/v1/images/{id}/content"),
    "video": ("/v1/videos", "/v1/videos/{id}", "/v1/videos/{id}/content"),
}
PUBLIC_PATHS = frozenset(path for paths in KIND_PATHS.values() for path in paths)


def same(*paths: str) -> dict[str, str]:
    """For an engine that calls these paths as the router does."""
    return {path: path for path in paths}

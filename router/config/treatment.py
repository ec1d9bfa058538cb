"""What the router does for an engine, in words: its command's dialect, told to people."""

from collections.abc import Iterator

from launchers.base import Command, Dialect


def told(command: Command, *, lora: bool) -> Iterator[str]:
    """A sentence for each thing. `lora`: whether adapters below `lora:` are public names."""
    yield from _of_requests(command)
    if "/v1/embeddings" in command.paths:
        yield from _of_embeddings(command.dialect)
    if "/v1/rerank" in command.paths:
        yield from _of_rerank(command.dialect)
    if "/v1/chat/completions" in command.paths:
        yield from _of_streams(command.dialect)
    if lora:
        yield "LoRA adapters below `lora:` are public names of their own."
    if command.concurrency is not None:
        requests = "one request" if command.concurrency == 1 else f"{command.concurrency} requests"
        yield (
            f"Where its options say nothing else it gets {requests} at a time; the others wait in the router, which "
            "lets go of a client that leaves."
        )


def _of_requests(command: Command) -> Iterator[str]:
    for path, members in command.dialect.takes.items():
        if path not in command.paths:
            continue
        known = ", ".join(f"`{member}`" for member in sorted(members))
        yield f"Of a request to `{path}` it is sent what it knows, and no more: {known}."
    if not command.dialect.nulls:
        yield 'Fields that are `null` are left out of a request: it does not read them as "not set".'


def _of_embeddings(dialect: Dialect) -> Iterator[str]:
    if dialect.max_inputs is not None:
        yield f"More than {dialect.max_inputs} texts in a request for embeddings are asked in parts and joined."
    if not dialect.tokens:
        yield (
            "It takes no embeddings as token numbers (LangChain's default): `decode_openai_tokens: true` makes text of "
            "them."
        )
    if not dialect.base64:
        yield "`encoding_format: base64` (the OpenAI SDK's default) is answered by the router, from its numbers."


def _of_rerank(dialect: Dialect) -> Iterator[str]:
    if dialect.texts:
        yield "Its own rerank takes `texts` and answers with a bare list; here it is asked and answers as others are."
    if dialect.logits:
        yield "The scores of its reranking are not within 0 to 1: `normalize_scores: true` brings them there."


def _of_streams(dialect: Dialect) -> Iterator[str]:
    if dialect.counts:
        yield "The tokens of a stream are counted whether or not the client asks for `usage`."
    if dialect.aborts:
        yield 'An answer that it ends with `finish_reason: "abort"` is told as the error that it is.'

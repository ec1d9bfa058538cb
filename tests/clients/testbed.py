"""What the tests of this folder agree on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
KEY = "clients-0123456789"
MODELS = {
    "llama.cpp": {
        "chat": "llamacpp-chat",
        "embedding": "llamacpp-embedding",
        "rerank": "llamacpp-rerank",
        "reranker": "llamacpp-rerank",
    },
    "infinity": {"embedding": "infinity-embedding", "rerank": "infinity-rerank", "reranker": "infinity-rerank"},
    "vLLM": {"chat": "vllm-chat", "embedding": "vllm-embedding", "rerank": "vllm-embedding"},
    "stand-in": {"transcription": "ears", "speech": "voice"},
}
"""Of `engines.yaml`, by engine and kind; "rerank" are all that can, "reranker" those that are declared as such."""
ENGINES = {model: engine for engine, models in MODELS.items() for model in models.values()}
CHAT = ("llamacpp-chat", "vllm-chat")
EMBEDDING = ("llamacpp-embedding", "infinity-embedding", "vllm-embedding")
RERANK = ("llamacpp-rerank", "infinity-rerank", "vllm-embedding")
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Erk"
    "Jggg=="
)


def openai_tokens() -> str:
    """The folder of the table of OpenAI's tokens, which one of the clients brings: tiktoken would else ask the
    internet for it, in the router as in the clients."""
    (found,) = REPOSITORY.glob(".clients/lib/python3*/site-packages/llama_index/core/_static/tiktoken_cache")
    return str(found)


@contextmanager
def short_folder() -> Iterator[Path]:
    """pytest's own folders are too deep for the sockets in a state folder."""
    with TemporaryDirectory(prefix="clients-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)

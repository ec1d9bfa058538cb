"""A model that an engine could serve, for the reference and the engines' pages."""

from collections.abc import Mapping

from launchers.base import Kind

COMMAND = {"argv": ["python3", "server.py", "--port", "${PORT}"]}
"""The options without which `engine: command` is none."""
_USUAL: Mapping[Kind, str] = {
    "chat": "Qwen/Qwen3-8B",
    "embedding": "BAAI/bge-m3",
    "rerank": "BAAI/bge-reranker-v2-m3",
    "transcription": "openai/whisper-large-v3-turbo",
    "speech": "Qwen/Qwen3-TTS-12Hz-1.7B-CustomVoice",
    "image": "Qwen/Qwen-Image",
    "video": "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
}
_OTHERS: Mapping[str, Mapping[Kind, str]] = {
    "llamacpp": {
        "chat": "Qwen/Qwen3-8B-GGUF:Q4_K_M",
        "embedding": "Qwen/Qwen3-Embedding-0.6B-GGUF:Q8_0",
        "rerank": "ggml-org/Qwen3-Reranker-0.6B-Q8_0-GGUF:Q8_0",
    },
    "mlx": {"chat": "mlx-community/Qwen3-8B-4bit"},
    "ollama": {"chat": "qwen3:8b", "embedding": "bge-m3"},
    "speaches": {
        "transcription": "Systran/faster-whisper-large-v3",
        "speech": "speaches-ai/Kokoro-82M-v1.0-ONNX",
    },
}


def model_of(engine: str, kind: Kind) -> str:
    return _OTHERS.get(engine, {}).get(kind) or _USUAL[kind]

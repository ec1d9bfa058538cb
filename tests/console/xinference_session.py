"""Xinference's own client at work: what it was told, as one JSON object. It runs in the clients' environment:
`xinference_session.py ADDRESS [KEY]`."""

import json
import sys
from collections.abc import Callable
from typing import Any

from xinference_client import RESTfulClient


def refusal(ask: Callable[..., object], *arguments: object) -> str:
    try:
        ask(*arguments)
    except RuntimeError as error:
        return str(error)
    return ""


def session(address: str, key: str | None = None) -> dict[str, Any]:
    client = RESTfulClient(address, key)
    messages = [{"role": "user", "content": "Hello"}]
    few = {"max_tokens": 5}
    models = client.list_models()
    chat, embed, rerank = (client.get_model(name) for name in ("chat", "embed", "rerank"))
    told = {
        "models": {name: model["model_type"] for name, model in models.items()},
        "handles": {name: type(client.get_model(name)).__name__ for name in models},
        "described": client.describe_model("chat"),
        "chat": chat.chat(messages, generate_config=few),
        "stream": list(chat.chat(messages, generate_config={**few, "stream": True})),
        "generate": chat.generate("the", few),
        "embedding": embed.create_embedding(["ping"]),
        "rerank": rerank.rerank(["seven small engines", "a dog", "fox"], "a dog"),
        "registrations": client.list_model_registrations("LLM"),
        "registration": client.get_model_registration("embedding", "embed"),
    }
    client.terminate_model("chat")
    told |= {
        "terminated": client.describe_model("chat")["ready"],
        "instance": client.get_instance_info("chat", "chat"),
        "refused": refusal(chat.chat, messages),
        "unknown": refusal(client.launch_model, "qwen3"),
        "launched": client.launch_model("chat", model_engine="llama.cpp", n_gpu=None),
        "progress": client.get_launch_model_progress("chat"),
        "abort": refusal(client.abort_request, "chat", "1"),
        "again": chat.chat(messages, generate_config=few),
    }
    return told


if __name__ == "__main__":
    json.dump(session(*sys.argv[1:]), sys.stdout)

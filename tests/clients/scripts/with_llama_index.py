"""LlamaIndex's classes for servers like OpenAI's."""

from checks import ASK, BASE, KEY, is_said, is_vector, run
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

MESSAGES = [ChatMessage(role="user", content=ASK)]


def llm(model, chat=True):
    return OpenAILike(
        api_base=BASE, api_key=KEY, model=model, is_chat_model=chat, max_tokens=12, max_retries=0, temperature=0,
        context_window=2048,
    )  # fmt: skip


def chat(model):
    is_said(llm(model).chat(MESSAGES).message.content)


def stream_chat(model):
    is_said("".join(piece.delta or "" for piece in llm(model).stream_chat(MESSAGES)))


def complete(model):
    is_said(llm(model, chat=False).complete("the quick").text)


def stream_complete(model):
    is_said("".join(piece.delta or "" for piece in llm(model, chat=False).stream_complete("the quick")))


def embeddings(model):
    return OpenAILikeEmbedding(api_base=BASE, api_key=KEY, model_name=model, embed_batch_size=4, max_retries=0)


def embed(model):
    is_vector(embeddings(model).get_text_embedding("the quick"))


def embed_batches(model):
    vectors = embeddings(model).get_text_embedding_batch([f"the quick {number}" for number in range(10)])
    assert len(vectors) == 10
    is_vector(vectors[9])


run(
    {
        ("chat", "/v1/chat/completions", "chat"): chat,
        ("chat", "/v1/chat/completions", "stream"): stream_chat,
        ("chat", "/v1/completions", "complete"): complete,
        ("chat", "/v1/completions", "stream"): stream_complete,
        ("embedding", "/v1/embeddings", "one"): embed,
        ("embedding", "/v1/embeddings", "batches"): embed_batches,
    }
)

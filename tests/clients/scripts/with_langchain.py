"""LangChain's classes for OpenAI."""

from checks import ASK, BASE, KEY, NO_BLANKS, TOOL, is_said, is_vector, run
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


def chat(model, **more):
    return ChatOpenAI(base_url=BASE, api_key=KEY, model=model, max_tokens=12, max_retries=0, temperature=0, **more)


def invoke(model):
    answer = chat(model).invoke(ASK)
    is_said(answer.content)
    assert answer.usage_metadata["output_tokens"] == 12


def stream(model):
    whole = None
    for piece in chat(model, stream_usage=True).stream(ASK):
        whole = piece if whole is None else whole + piece
    is_said(whole.content)
    assert whole.usage_metadata["output_tokens"] == 12


def bind_tools(model):
    answer = chat(model).bind_tools([TOOL]).invoke(ASK)
    assert answer.content or answer.tool_calls


def forced_tool(model):
    """llama.cpp lets a model speak before a call, and the tiny one never ends."""
    llm = ChatOpenAI(
        base_url=BASE, api_key=KEY, model=model, max_tokens=200, max_retries=0, temperature=0, logit_bias=NO_BLANKS
    )
    answer = llm.bind_tools([TOOL], tool_choice="any", parallel_tool_calls=False).invoke(ASK)
    if model.startswith("vllm"):
        assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("weather", {"city": "Paris"})]
    assert answer.content or answer.tool_calls


def responses(model):
    is_said(chat(model, use_responses_api=True).invoke(ASK).text)


def batch(model):
    for answer in chat(model).batch([ASK, ASK, ASK]):
        is_said(answer.content)


def embeddings(model, **more):
    return OpenAIEmbeddings(base_url=BASE, api_key=KEY, model=model, max_retries=0, **more)


TEXTS = ["the quick brown fox", "seven small engines"]


def embed_tokens(model):
    """Its default: the texts as numbers of OpenAI's own tokens. What comes has to be what the texts give."""
    vectors = embeddings(model).embed_documents(TEXTS)
    plain = embeddings(model, check_embedding_ctx_length=False).embed_documents(TEXTS)
    for vector, same in zip(vectors, plain, strict=True):
        is_vector(vector)
        assert sum(a * b for a, b in zip(vector, same, strict=True)) > 0.999, "of other texts"


def embed_texts(model):
    found = embeddings(model, check_embedding_ctx_length=False)
    is_vector(found.embed_query("the quick brown fox"))
    assert len(found.embed_documents(TEXTS)) == 2


run(
    {
        ("chat", "/v1/chat/completions", "invoke"): invoke,
        ("chat", "/v1/chat/completions", "stream"): stream,
        ("chat", "/v1/chat/completions", "batch"): batch,
        ("chat", "/v1/chat/completions", "bound tools"): bind_tools,
        ("chat", "/v1/chat/completions", "tool choice"): forced_tool,
        ("chat", "/v1/responses", "invoke"): responses,
        ("embedding", "/v1/embeddings", "token numbers"): embed_tokens,
        ("embedding", "/v1/embeddings", "texts"): embed_texts,
    }
)

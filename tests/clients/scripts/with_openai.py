"""OpenAI's SDK for Python, with addresses as people type them."""

import base64
import struct
from functools import partial

import openai
from checks import ASK, BASE, KEY, ROOT, is_said, is_vector, refusal, run

MESSAGES = [{"role": "user", "content": ASK}]
client = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0)
azure = openai.AzureOpenAI(azure_endpoint=ROOT, api_key=KEY, api_version="2024-10-21", max_retries=0)


def chat_at(base):
    def check(model):
        there = client.with_options(base_url=base)
        is_said(
            there.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8, temperature=0)
            .choices[0]
            .message.content
        )

    return check


def azure_chat(model):
    is_said(
        azure.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8, temperature=0)
        .choices[0]
        .message.content
    )


def chat_by_model(model):
    there = client.with_options(base_url=f"{BASE}/engines/{model}")
    is_said(
        there.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8, temperature=0)
        .choices[0]
        .message.content
    )


def stream(model):
    pieces = list(
        client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=8, temperature=0, stream=True)
    )
    assert all(piece.usage is None for piece in pieces), "usage that was not asked for"
    is_said("".join(choice.delta.content or "" for piece in pieces for choice in piece.choices))


def stream_with_usage(model):
    *_, last = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=8, stream=True, stream_options={"include_usage": True}
    )
    assert last.usage.completion_tokens == 8


def completion(model):
    is_said(client.completions.create(model=model, prompt="the quick", max_tokens=8, temperature=0).choices[0].text)


def streamed_completion(model):
    pieces = client.completions.create(model=model, prompt="the quick", max_tokens=8, temperature=0, stream=True)
    is_said("".join(choice.text for piece in pieces for choice in piece.choices))


def response(model):
    answer = client.responses.create(model=model, input=ASK, max_output_tokens=8, temperature=0)
    assert answer.model == model
    is_said(answer.output_text)


def streamed_response(model):
    events = client.responses.create(model=model, input=ASK, max_output_tokens=8, temperature=0, stream=True)
    is_said("".join(event.delta for event in events if event.type == "response.output_text.delta"))


def embeddings(model):
    is_vector(client.embeddings.create(model=model, input="the quick").data[0].embedding)


def encoded_embeddings(model):
    texts = ["the quick", "brown fox"]
    encoded = client.embeddings.create(model=model, input=texts, encoding_format="base64").data
    floats = client.embeddings.create(model=model, input=texts, encoding_format="float").data
    for text, same in zip(encoded, floats, strict=True):
        numbers = struct.unpack("<64f", base64.b64decode(text.embedding))
        assert max(abs(a - b) for a, b in zip(numbers, same.embedding, strict=True)) < 1e-6


def embeddings_by_model(model):
    there = client.with_options(base_url=f"{BASE}/engines/{model}")
    is_vector(there.embeddings.create(model=model, input="the quick").data[0].embedding)


def models(model):
    assert model in {found.id for found in client.models.list()}
    assert client.models.retrieve(model).id == model


def bare_models(model):
    assert model in {found.id for found in client.with_options(base_url=ROOT).models.list()}


def transcription(model):
    answer = client.audio.transcriptions.create(model=model, file=("a.wav", b"RIFF" * 9000))
    assert answer.text == "the quick brown fox"


def transcription_by_chat(model):
    call = partial(client.audio.transcriptions.create, model=model, file=("a.wav", b"RIFF"))
    error = refusal(openai.APIStatusError, call)
    assert error.code == "not_supported_by_model", error
    assert "ears" in str(error), "it does not say which model can"
    return error.status_code


def speech(model):
    assert client.audio.speech.create(model=model, input="hello", voice="alloy").content == bytes(range(256)) * 64


def streamed_speech(model):
    with client.audio.speech.with_streaming_response.create(model=model, input="hello", voice="alloy") as answer:
        assert b"".join(answer.iter_bytes()) == bytes(range(256)) * 64


run(
    {
        ("chat", "/v1/chat/completions", "create"): chat_at(BASE),
        ("chat", "/v1/chat/completions", "stream"): stream,
        ("chat", "/v1/chat/completions", "stream with usage"): stream_with_usage,
        ("chat", "/v1/completions", "create"): completion,
        ("chat", "/v1/completions", "stream"): streamed_completion,
        ("chat", "/v1/responses", "create"): response,
        ("chat", "/v1/responses", "stream"): streamed_response,
        ("chat", "/chat/completions", "create"): chat_at(ROOT),
        ("chat", "/v1/v1/chat/completions", "create"): chat_at(f"{BASE}/v1"),
        ("chat", "/v1/engines/{model}/chat/completions", "create"): chat_by_model,
        ("chat", "/openai/deployments/{model}/chat/completions", "create"): azure_chat,
        ("embedding", "/v1/embeddings", "create"): embeddings,
        ("embedding", "/v1/embeddings", "base64"): encoded_embeddings,
        ("embedding", "/v1/engines/{model}/embeddings", "create"): embeddings_by_model,
        ("chat", "/v1/models", "list"): models,
        ("chat", "/models", "list"): bare_models,
        ("chat", "/v1/audio/transcriptions", "upload"): transcription_by_chat,
        ("transcription", "/v1/audio/transcriptions", "upload"): transcription,
        ("speech", "/v1/audio/speech", "whole"): speech,
        ("speech", "/v1/audio/speech", "streamed"): streamed_speech,
    }
)

"""How many tokens an answer took, in every dialect; the answers are engines' own."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import msgspec
import pytest

from router.proxy.relay import Stream
from router.proxy.usage import REACH, tokens, usage_part, with_usage

WHOLE = {
    "vLLM's chat": (b'{"model":"m","choices":[],"usage":{"prompt_tokens":10,"total_tokens":87,"completion_tokens":77,"prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":5}},"prompt_logprobs":null}', (10, 77)),
    "llama.cpp's chat": (b'{"choices":[],"usage":{"completion_tokens":2,"prompt_tokens":10,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":9}},"timings":{"cache_n":9,"prompt_n":1}}', (10, 2)),
    "a message": (b'{"type":"message","usage":{"input_tokens":10,"output_tokens":77}}', (10, 77)),
    "a message with a kept prompt": (b'{"type":"message","usage":{"cache_read_input_tokens":9,"cache_creation_input_tokens":4,"input_tokens":1,"output_tokens":2}}', (14, 2)),
    "a response": (b'{"object":"response","usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":9,"input_tokens_per_turn":[]},"output_tokens":2,"total_tokens":12}}', (10, 2)),
    "embeddings": (b'{"object":"list","data":[],"usage":{"prompt_tokens":4,"total_tokens":4,"completion_tokens":0}}', (4, 0)),
    "infinity's": (b'{"object":"list","data":[],"usage":{"prompt_tokens":4,"total_tokens":4}}', (4, None)),
    "Jina's reranking": (b'{"model":"m","usage":{"total_tokens":38},"results":[]}', (38, None)),
    "Xinference's reranking": (b'{"id":"i","results":[],"meta":{"api_version":null,"billed_units":null,"tokens":{"input_tokens":17,"output_tokens":3},"warnings":null}}', (17, 3)),
    "Cohere's": (b'{"results":[],"meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":12.0,"search_units":1},"tokens":{"input_tokens":14.0}}}', (14, None)),
    "Cohere's, without tokens": (b'{"results":[],"meta":{"billed_units":{"input_tokens":12}}}', (12, None)),
    "with spaces": (b'{"usage" : { "prompt_tokens" : 1 , "completion_tokens" : 2 }}', (1, 2)),
    "seconds": (b'{"text":"a","usage":{"type":"duration","seconds":3}}', (None, None)),
    "null": (b'{"choices":[],"usage":null}', (None, None)),
    "none": (b'{"choices":[]}', (None, None)),
    "spoken of": (b'{"content":"\\"usage\\":{\\"prompt_tokens\\":1}"}', (None, None)),
}  # fmt: skip


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_answer(case: str) -> None:
    body, expected = WHOLE[case]
    assert tokens(usage_part(body)) == expected


@pytest.mark.parametrize("filler", [b"", b'"data":"' + b"x" * 3 * REACH + b'",'], ids=["small", "large"])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("case", WHOLE)
def test_one_that_is_found_at_either_end_of_a_large_answer(case: str, first: bool, filler: bytes) -> None:
    body, expected = WHOLE[case]
    large = body[:-1] + b"," + filler + b'"z":1}' if first else b"{" + filler + body[1:]
    msgspec.json.decode(large)
    assert tokens(usage_part(large)) == expected


START = b'event: message_start\ndata: {"type":"message_start","message":{"model":"inner","usage":{"cache_read_input_tokens":9,"input_tokens":1,"output_tokens":0}}}\n\n'
TEXT = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"text":"\\"usage\\":{\\"input_tokens\\":5}"}}\n\n'
DELTA = b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":2}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
WORD = b'data: {"model":"inner","choices":[{"delta":{"content":"a"}}],"usage":%b}\n\n'
STREAMS = {
    "llama.cpp's message": (START + TEXT * 3 + DELTA + STOP, (10, 2)),
    "vLLM's message": (START.replace(b'"cache_read_input_tokens":9,"input_tokens":1', b'"input_tokens":10') + TEXT + DELTA.replace(b'"output', b'"input_tokens":10,"output') + STOP, (10, 2)),
    "a response": (b'event: response.created\ndata: {"type":"response.created","response":{"model":"inner","usage":null}}\n\n' + TEXT + b'event: response.completed\ndata: {"type":"response.completed","response":{"model":"inner","usage":{"input_tokens":10,"input_tokens_details":{"cached_tokens":9},"output_tokens":2,"total_tokens":12}}}\n\n', (10, 2)),
    "a chat with one at its end": (WORD % b"null" * 3 + b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2}}\n\ndata: [DONE]\n\n', (10, 2)),
    "a chat with one each time": (b"".join(WORD % b'{"prompt_tokens":10,"completion_tokens":%d}' % n for n in range(3)) + b"data: [DONE]\n\n", (10, 2)),
    "a completion of llama.cpp's": (b'data: {"choices":[{"text":"","finish_reason":"length"}],"usage":{"completion_tokens":2,"prompt_tokens":10,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":0}},"id":"i","timings":{"prompt_n":3}}\n\ndata: [DONE]\n\n', (10, 2)),
    "none": (b'data: {"choices":[]}\n\ndata: [DONE]\n\n', (None, None)),
}  # fmt: skip


@pytest.mark.parametrize("name", [None, "m"])
@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_however_it_is_cut(case: str, name: str | None) -> None:
    sent, expected = STREAMS[case]
    parts = [[sent], [part + b"\n\n" for part in sent.split(b"\n\n")[:-1]]]
    parts += [[sent[:at], sent[at:]] for at in range(1, len(sent))]
    for pieces in parts:
        stream = Stream(name)
        for piece in pieces:
            stream.feed(piece, ended=False)
        stream.feed(b"", ended=True)
        assert tokens(stream.usage) == expected


def test_no_more_is_kept_of_a_streams_start_than_its_usage() -> None:
    stream = Stream(None)
    stream.feed(b'data: {"usage":null,"instructions":"' + b"x" * 500_000 + b'"}\n\n', ended=False)
    stream.feed(b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n', ended=False)
    assert len(stream.usage) <= 2 * REACH
    assert tokens(stream.usage) == (1, 2)


@pytest.mark.parametrize("body", [b'{"model":"m","stream":true}', b' \n{ "model" : "\xc3\xbc", "stream":true}'])
def test_a_request_that_asks_for_no_usage_is_made_to(body: bytes) -> None:
    made = with_usage(body, b"")
    assert made is not None
    assert msgspec.json.decode(made) == {**msgspec.json.decode(body), "stream_options": {"include_usage": True}}
    assert made.replace(b'"stream_options":{"include_usage":true},', b"", 1) == body


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"null", {"include_usage": True}),
        (b"{}", {"include_usage": True}),
        (b'{"include_usage":false}', {"include_usage": True}),
        (b'{"include_usage":null}', {"include_usage": True}),
        (b'{"other":[1.50],"include_usage" : false}', {"other": [1.5], "include_usage": True}),
        (b'{"include_usage":true}', None),
        (b'{ "other": 1, "include_usage": true }', None),
        (b'{"include_usage":"yes"}', None),
        (b"7", None),
        (b'"null"', None),
        (b"[]", None),
    ],
)
def test_one_that_has_options_keeps_the_others(options: bytes, expected: object) -> None:
    body = b'{"big":12345678901234567890123,"x":{"stream_options":{}},"stream_options": %b , "model":"m"}' % options
    made = with_usage(body, options)
    if made is None:
        assert expected is None
        return
    assert msgspec.json.decode(made)["stream_options"] == expected
    assert made.startswith(b'{"big":12345678901234567890123,"x":{"stream_options":{}},"stream_options":{')
    assert made.endswith(b',"model":"m"}')


def test_llamacpps_timings_are_usage_where_nobody_asked_for_it() -> None:
    """As the server of xllamacpp 2026.10 ends a stream."""
    end = (
        b'data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1,"id":"c","model":"m",'
        b'"object":"chat.completion.chunk","timings":{"cache_n":10,"prompt_n":3,"prompt_ms":1.5,'
        b'"predicted_n":20,"predicted_ms":9.1}}\n\n'
    )
    for pieces in ((end, b"data: [DONE]\n\n"), (end + b"data: [DONE]\n\n",)):
        stream = Stream(None)
        for piece in (b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n', *pieces):
            stream.feed(piece, ended=False)
        assert tokens(stream.usage) == (13, 20)

"""What of a stream is not for the client: a usage it did not ask for, and an end that is none. The events are vLLM's
and llama.cpp's own, as they were on the wire."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import re
from collections.abc import Iterator

import msgspec
import pytest

from router.errors import UpstreamError
from router.proxy.events import ping
from router.proxy.late import MAX_LATE, Late
from router.proxy.relay import Stream, aborted
from router.proxy.usage import tokens

DONE = b"data: [DONE]\n\n"


def vllm(choices: bytes, more: bytes = b"") -> bytes:
    return (
        b'data: {"id":"chatcmpl-8272a74bf5949b6c","object":"chat.completion.chunk","created":1795214637,"model":"tiny",'
        b'"choices":[%b]%b}\n\n' % (choices, more)
    )


WORD = vllm(b'{"index":0,"delta":{"content":" their"},"logprobs":null,"finish_reason":null,"token_ids":null}')
LENGTH = vllm(
    b'{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}'
)
ABORT = LENGTH.replace(b'"length"', b'"abort"')
USAGE = vllm(
    b"",
    b',"usage":{"prompt_tokens":10,"total_tokens":87,"completion_tokens":77},"system_fingerprint":"vllm-0.32.0-8a0eb9a7"',
)
LLAMACPP_USAGE = b'data: {"choices":[],"created":1795213397,"id":"chatcmpl-yRfRRXNEn0JtFrWE8kKNhq4lquEjlTU3","model":"inner","system_fingerprint":"b0-unknown","object":"chat.completion.chunk","usage":{"completion_tokens":77,"prompt_tokens":10,"total_tokens":87,"prompt_tokens_details":{"cached_tokens":0}},"timings":{"cache_n":0,"prompt_n":10,"predicted_n":2}}\n\n'
LLAMACPP_END = b'data: {"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"created":1795213398,"model":"inner","object":"text_completion","usage":{"completion_tokens":2,"prompt_tokens":3,"total_tokens":5},"id":"chatcmpl-fXJCzbL8ZBNW0baDAi39dZ3jQq9a5SGj"}\n\n'
WITH_NULL = vllm(b'{"index":0,"delta":{"content":"a"}}', b',"usage":null')
FILTERED = vllm(b"", b',"prompt_filter_results":[],"usage":null')

START = b'event: message_start\ndata: {"type":"message_start","message":{"id":"chatcmpl-8e63","type":"message","role":"assistant","content":[],"model":"tiny","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":0}}}\n\n'
TEXT = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":" then"},"index":0}\n\n'
TEXT_END = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
MESSAGE_LENGTH = b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"input_tokens":10,"output_tokens":78}}\n\n'
MESSAGE_ABORT = MESSAGE_LENGTH.replace(b'"max_tokens"', b"null")
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
COMPLETED = b'event: response.completed\ndata: {"response":{"id":"resp_a0","metadata":{"status":"cancelled","finish_reason":"abort"},"object":"response","output":[{"id":"msg_a","role":"assistant","status":"completed","type":"message"}],"background":false,"status":"completed","usage":{"input_tokens":10,"output_tokens":2,"total_tokens":12}},"sequence_number":9,"type":"response.completed"}\n\n'
CANCELLED = COMPLETED.replace(b'"background":false,"status":"completed"', b'"background":false,"status":"cancelled"')


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    """As one piece, event by event, in two at any place, and byte by byte."""
    yield [stream]
    yield re.findall(rb".+?(?:\n\n|\Z)", stream, re.DOTALL)
    yield from ([stream[:at], stream[at:]] for at in range(1, len(stream)))
    yield [stream[at : at + 1] for at in range(len(stream))]


def fed(stream: Stream, pieces: list[bytes]) -> bytes:
    passed = [stream.feed(piece, ended=False) for piece in pieces] + [stream.feed(b"", ended=True)]
    return b"".join(filter(None, passed))


HIDDEN = {
    "vLLM's": (WORD * 2 + LENGTH + USAGE + DONE, WORD * 2 + LENGTH + DONE),
    "llama.cpp's": (WORD * 2 + LENGTH + LLAMACPP_USAGE + DONE, WORD * 2 + LENGTH + DONE),
    "with spaces": (
        WORD + USAGE.replace(b":", b" : ").replace(b"data :", b"data:").replace(b"[]", b"[ ]") + DONE,
        WORD + DONE,
    ),
    "with CRLF": ((WORD + USAGE + DONE).replace(b"\n", b"\r\n"), WORD + DONE),
    "at the end, without one": (WORD + USAGE[:-2], WORD),
    "and null before": (WITH_NULL * 2 + USAGE + DONE, WITH_NULL * 2 + DONE),
}
SHOWN = {
    "beside a choice": LLAMACPP_END + DONE,
    "null": WITH_NULL + DONE,
    "nothing, and no usage": FILTERED + WORD + DONE,
    "in a text": WORD.replace(b" their", b'\\"choices\\":[],\\"usage\\":{}') + DONE,
    "no JSON": b'data: "choices":[],"usage":{}\n\n' + DONE,
    "Anthropic's": START + TEXT + TEXT_END + MESSAGE_LENGTH + STOP,
    "a response's": COMPLETED,
}


@pytest.mark.parametrize("name", [None, "m"])
@pytest.mark.parametrize("case", HIDDEN)
def test_a_usage_that_the_client_did_not_ask_for_is_counted_and_not_shown(case: str, name: str | None) -> None:
    sent, expected = HIDDEN[case]
    for pieces in cuts(sent):
        stream = Stream(name, hide_usage=True)
        assert fed(stream, pieces) == (expected if name is None else expected.replace(b'"tiny"', b'"m"'))
        assert tokens(stream.usage) == (10, 77)


@pytest.mark.parametrize("case", HIDDEN)
def test_one_that_it_asked_for_is_shown(case: str) -> None:
    sent, _ = HIDDEN[case]
    for pieces in cuts(sent):
        stream = Stream(None)
        assert fed(stream, pieces) == sent.replace(b"\r\n", b"\n")
        assert tokens(stream.usage) == (10, 77)


@pytest.mark.parametrize("case", SHOWN)
def test_an_event_that_tells_more_than_the_usage_stays(case: str) -> None:
    for pieces in cuts(SHOWN[case]):
        assert fed(Stream(None, hide_usage=True, aborts=True), pieces) == SHOWN[case]


def test_a_piece_that_has_nothing_for_the_client_is_empty() -> None:
    stream = Stream(None, hide_usage=True)
    assert stream.feed(WORD, ended=False) == WORD
    assert stream.feed(USAGE, ended=False) == b""
    assert stream.feed(DONE, ended=True) == DONE


ABORTED = {
    "a chat": (WORD * 2 + ABORT + USAGE + DONE, WORD * 2),
    "a chat with a usage each time": (
        (WORD * 2 + ABORT).replace(b"}]}", b'}],"usage":{"prompt_tokens":1}}') + DONE,
        (WORD * 2).replace(b"}]}", b'}],"usage":{"prompt_tokens":1}}'),
    ),
    "with spaces": (WORD + ABORT.replace(b'"finish_reason":', b'"finish_reason" : ') + DONE, WORD),
    "before the first word": (ABORT + DONE, b""),
    "one of two choices": (
        WORD + vllm(b'{"index":0,"finish_reason":null},{"index":1,"finish_reason":"abort"}') + WORD,
        WORD,
    ),
    "at the end, without one": (WORD + ABORT[:-2], WORD),
    "a message": (START + TEXT * 2 + TEXT_END + MESSAGE_ABORT + STOP, START + TEXT * 2 + TEXT_END),
    "a response of gpt-oss": (CANCELLED, b""),
}
ENDED = {
    "a chat": WORD * 2 + LENGTH + DONE,
    "a text of it": WORD.replace(b" their", b'\\"finish_reason\\":\\"abort\\"') + DONE,
    "another member": WORD.replace(b'"token_ids":null', b'"token":"abort"') + DONE,
    "a message": START + TEXT + TEXT_END + MESSAGE_LENGTH + STOP,
    "a response, whose metadata are the client's": COMPLETED,
    "a response in the background, cancelled by the client": CANCELLED.replace(
        b'"background":false', b'"background":true'
    ),
}


@pytest.mark.parametrize("case", ABORTED)
def test_a_stream_that_the_engine_has_given_up_ends_before_it_says_so(case: str) -> None:
    sent, expected = ABORTED[case]
    for pieces in cuts(sent):
        stream = Stream(None, hide_usage=True, aborts=True)
        assert fed(stream, pieces) == expected
        assert stream.aborted


@pytest.mark.parametrize("case", ABORTED)
def test_an_engine_that_aborts_nothing_is_not_looked_at_for_it(case: str) -> None:
    stream = Stream(None)
    assert fed(stream, [ABORTED[case][0]]) == ABORTED[case][0]
    assert not stream.aborted


@pytest.mark.parametrize("case", ENDED)
def test_a_stream_that_ended_well_is_passed_on(case: str) -> None:
    for pieces in cuts(ENDED[case]):
        stream = Stream(None, aborts=True)
        assert fed(stream, pieces) == ENDED[case]
        assert not stream.aborted


def test_what_is_lost_is_told_in_the_streams_own_dialect() -> None:
    for events, named in ((WORD, False), (START + TEXT, True), (b": ping\n\n" + START, True)):
        stream = Stream(None, aborts=True)
        assert stream.feed(events, ended=False) == events
        assert stream.feed(MESSAGE_ABORT, ended=False) == b""
        assert stream.last_words(UpstreamError("gone")) == UpstreamError("gone").event(named=named)


CHAT = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":1}}'
MESSAGE = b'{"id":"c","type":"message","role":"assistant","content":[{"type":"text","text":" the"}],"model":"tiny","stop_reason":"end_turn","usage":{"input_tokens":10,"output_tokens":77}}'
RESPONSE = b'{"id":"r","metadata":{"status":"cancelled"},"object":"response","output":[{"type":"message","role":"assistant","status":"completed"}],"background":false,"status":"completed"}'


@pytest.mark.parametrize(
    ("body", "given_up"),
    [
        (CHAT, False),
        (CHAT.replace(b'"stop"', b'"abort"'), True),
        (CHAT.replace(b'"stop"', b' "abort"'), True),
        (CHAT.replace(b'"content":"a"', b'"content":"\\"finish_reason\\":\\"abort\\""'), False),
        (CHAT.replace(b'"content":"a"', b'"content":"abort"'), False),
        (MESSAGE, False),
        (MESSAGE.replace(b'"stop_reason":"end_turn",', b""), True),
        (MESSAGE.replace(b'"end_turn"', b"null"), True),
        (RESPONSE, False),
        (
            RESPONSE.replace(b'"background":false,"status":"completed"', b'"background":false,"status":"cancelled"'),
            True,
        ),
        (
            RESPONSE.replace(b'"background":false,"status":"completed"', b'"background":true,"status":"cancelled"'),
            False,
        ),
        (b'["abort"]', False),
        (b'"finish_reason":"abort"', False),
        (b'{"choices":["abort"]}', False),
        (b"", False),
    ],
)
def test_a_whole_answer_tells_whether_it_was_given_up(body: bytes, given_up: bool) -> None:
    assert aborted(body) is given_up


LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


def late(body: bytes, status: int = 503, *, named: bool = False) -> bytes:
    """What is given out for `body`, which comes in three parts."""
    relay = Late(status, named=named)
    third = len(body) // 3
    assert relay.feed(body[:third], ended=False) == b""
    assert relay.feed(body[third : 2 * third], ended=False) == b""
    return relay.feed(body[2 * third :], ended=True)


def test_an_error_after_the_waiting_becomes_an_event() -> None:
    assert late(LOADING) == b"data: " + LOADING + b"\n\n"
    spread = b'{\r\n  "error": {"message": "a\\nb",\n "code": 12345678901234567890}\n}\n'
    assert late(spread) == b'data: {"error":{"message":"a\\nb","code":12345678901234567890}}\n\n'


def test_and_one_of_anthropics_where_it_is_theirs() -> None:
    event = b'event: error\ndata: {"type":"error","error":{"message":"Loading model","type":"unavailable_error","code":503}}\n\n'
    assert late(LOADING, named=True) == event
    assert late(b'{"type":"error",' + LOADING[1:], named=True) == event


def test_a_whole_answer_becomes_an_event_where_there_is_one_for_it() -> None:
    relay = Late(200, named=False)
    assert relay.feed(CHAT, ended=True) == b"data: " + CHAT + b"\n\n"
    assert tokens(relay.usage) == (1, None)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"<html>\n <b>Bad\r\ngateway</b>", 502, "the engine answered 502: <html> <b>Bad gateway</b>"),
        (b"", 500, "the engine answered 500: "),
        (b"\xff\xfe", 500, "the engine answered 500: ��"),
        (b'{"detail":"no such thing"}', 404, "the engine answered 404: no such thing"),
        (b'{"detail": [{"loc": ["body"]}]}', 422, 'the engine answered 422: {"detail": [{"loc": ["body"]}]}'),
        (b'{"object":"error","message":"too long"}', 400, "the engine answered 400: too long"),
        (b'{"error":"not found"}', 404, "the engine answered 404: not found"),
        (b"x" * 500, 500, "the engine answered 500: " + "x" * 200),
        (b"text", 200, "the engine answered 200, but no stream"),
        (b'{"error":{"message":"' + b"x" * MAX_LATE + b'"}}', 500, 'the engine answered 500: {"error":{"message":"' + "x" * 179),
    ],
    ids=range(10),
)  # fmt: skip
def test_what_is_no_error_in_json_becomes_one(body: bytes, status: int, message: str, named: bool) -> None:
    assert late(body, status, named=named) == UpstreamError(message).event(named=named)


def test_a_whole_message_has_no_event() -> None:
    assert late(MESSAGE, 200, named=True) == UpstreamError("the engine answered 200, but no stream").event(named=True)


def test_an_endless_one_is_not_kept() -> None:
    relay = Late(500, named=False)
    for _ in range(40):
        assert relay.feed(b"x" * MAX_LATE, ended=False) == b""
    assert len(relay.feed(b"", ended=True)) < 1_000


def test_an_engine_that_dies_after_the_waiting_is_told_in_the_paths_dialect() -> None:
    for named in (False, True):
        relay = Late(500, named=named)
        relay.feed(LOADING[:9], ended=False)
        assert relay.last_words(UpstreamError("gone")) == UpstreamError("gone").event(named=named)


def test_a_sign_of_life_is_a_whole_event() -> None:
    assert ping(False) == b": ping\n\n"
    name, data = ping(True).removesuffix(b"\n\n").split(b"\n")
    assert name == b"event: ping"
    assert msgspec.json.decode(data.removeprefix(b"data: ")) == {"type": "ping"}

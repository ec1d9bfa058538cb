"""The public name in a stream of events, however it is cut: what was found in one event is never wrong in the next."""
# ruff: noqa: E501 - what goes over a wire is told best in one line

import random
from collections.abc import Iterator

import pytest
from lab import END, SSE, Lab, chunk

from router.proxy.events import MAX_EVENT, Events

pytestmark = pytest.mark.anyio

PLAIN = b'data: {"id":"1","model":"inner","choices":[{"delta":{"content":"a"}}]}\n\n'
CASES = {
    "the same again": (PLAIN * 3, PLAIN.replace(b"inner", b"m") * 3),
    "another beginning": (
        PLAIN + b'data: {"id":"2","model":"inner","x":1}\n\n' + PLAIN,
        (PLAIN + b'data: {"id":"2","model":"inner","x":1}\n\n' + PLAIN).replace(b"inner", b"m"),
    ),
    "no model": (PLAIN + b'data: {"id":"1"}\n\n' + PLAIN, (PLAIN + b'data: {"id":"1"}\n\n' + PLAIN).replace(b"inner", b"m")),
    "a name of its own": (PLAIN + PLAIN.replace(b"inner", b"real-2"), PLAIN.replace(b"inner", b"m") * 2),
    "a longer name": (PLAIN + PLAIN.replace(b"inner", b"inner-2"), PLAIN.replace(b"inner", b"m") * 2),
    "a quoted look-alike": (
        PLAIN + b'data: {"id":"1","x":"\\"model\\":\\"inner\\"","model":"inner"}\n\n',
        PLAIN.replace(b"inner", b"m") + b'data: {"id":"1","x":"\\"model\\":\\"inner\\"","model":"m"}\n\n',
    ),
    "a look-alike behind": (
        PLAIN + PLAIN.replace(b'"a"', b'"\\"model\\":\\"inner\\""'),
        PLAIN.replace(b"inner", b"m") + PLAIN.replace(b"inner", b"m").replace(b'"a"', b'"\\"model\\":\\"inner\\""'),
    ),
    "one nested before": (
        PLAIN + b'data: {"id":"1","x":{"model":"inner"},"model":"inner"}\n\n',
        PLAIN.replace(b"inner", b"m") + b'data: {"id":"1","x":{"model":"inner"},"model":"m"}\n\n',
    ),
    "one nested behind": (
        PLAIN + PLAIN.replace(b'"a"', b'{"model":"inner"}'),
        PLAIN.replace(b"inner", b"m") + PLAIN.replace(b"inner", b"m").replace(b'"a"', b'{"model":"inner"}'),
    ),
    "two that count": (
        PLAIN + b'data: {"id":"1","model":"inner","response":{"model":"inner"}}\n\n',
        PLAIN.replace(b"inner", b"m") + b'data: {"id":"1","model":"m","response":{"model":"m"}}\n\n',
    ),
    "two that count, first": (
        b'data: {"id":"1","model":"inner","message":{"model":"inner"}}\n\n' + PLAIN,
        b'data: {"id":"1","model":"m","message":{"model":"m"}}\n\n' + PLAIN.replace(b"inner", b"m"),
    ),
    "the same twice": (
        PLAIN + b'data: {"id":"1","model":"inner","model":"inner"}\n\n',
        PLAIN.replace(b"inner", b"m") + b'data: {"id":"1","model":"m","model":"m"}\n\n',
    ),
    "two lines": (
        PLAIN + b'data: {"id":"1","model":"inner"}\ndata: {"id":"2","model":"inner"}\n\n' + PLAIN,
        PLAIN.replace(b"inner", b"m") + b'data: {"id":"1","model":"m"}\ndata: {"id":"2","model":"m"}\n\n' + PLAIN.replace(b"inner", b"m"),
    ),
    "comments and names": (
        b': "model":"inner"\n\n' + PLAIN + b'event: x\nid: 7\ndata: {"model":"inner"}\n\n' + PLAIN,
        b': "model":"inner"\n\n' + (PLAIN + b'event: x\nid: 7\ndata: {"model":"inner"}\n\n' + PLAIN).replace(b"inner", b"m"),
    ),
    "CRLF": ((PLAIN * 4).replace(b"\n", b"\r\n"), (PLAIN * 4).replace(b"inner", b"m")),
    "CRLF behind LF": (PLAIN + (PLAIN * 4).replace(b"\n", b"\r\n"), (PLAIN * 5).replace(b"inner", b"m")),
    "CRLF before LF": (b": ping - 2026\r\n\r\n" + PLAIN * 2, b": ping - 2026\n\n" + (PLAIN * 2).replace(b"inner", b"m")),
    "CRLF and names": (
        b'event: x\r\nid: 7\r\ndata: {"model":"inner"}\r\n\r\n' * 3,
        b'event: x\nid: 7\ndata: {"model":"m"}\n\n' * 3,
    ),
    "CR": ((PLAIN * 4).replace(b"\n", b"\r"), (PLAIN * 4).replace(b"inner", b"m")),
    "many blank lines, CRLF": ((PLAIN + b"\n\n\n" + PLAIN).replace(b"\n", b"\r\n"), (PLAIN + b"\n\n\n" + PLAIN).replace(b"inner", b"m")),
    "null": (PLAIN + PLAIN.replace(b'"inner"', b"null") + PLAIN, (PLAIN + PLAIN.replace(b'"inner"', b"null") + PLAIN).replace(b"inner", b"m")),
    "many blank lines": (PLAIN + b"\n\n\n" + PLAIN, (PLAIN + b"\n\n\n" + PLAIN).replace(b"inner", b"m")),
    "no JSON": (PLAIN + b'data: "model":"inner"\n\ndata: [DONE]\n\n', PLAIN.replace(b"inner", b"m") + b'data: "model":"inner"\n\ndata: [DONE]\n\n'),
    "without a space": ((PLAIN * 2).replace(b"data: ", b"data:"), (PLAIN * 2).replace(b"data: ", b"data:").replace(b"inner", b"m")),
    "escaped": (
        PLAIN + b'data: {"id":"1","mod\\u0065l":"inner","model":"inner"}\n\n',
        PLAIN.replace(b"inner", b"m") + b'data: {"id":"1","mod\\u0065l":"m","model":"m"}\n\n',
    ),
    "no end": (PLAIN + PLAIN[:-2], (PLAIN + PLAIN[:-2]).replace(b"inner", b"m")),
}  # fmt: skip


def fed(pieces: Iterator[bytes] | list[bytes], name: str | None = "m") -> bytes:
    events = Events(name)
    return b"".join([events.feed(piece) for piece in pieces]) + events.rest()


@pytest.mark.parametrize("case", CASES)
def test_the_names_that_count_are_replaced_and_nothing_else(case: str) -> None:
    stream, expected = CASES[case]
    assert fed([stream]) == expected


@pytest.mark.parametrize("case", CASES)
def test_a_cut_at_any_byte_makes_no_difference(case: str) -> None:
    stream, expected = CASES[case]
    for cut in range(1, len(stream)):
        assert fed([stream[:cut], stream[cut:]]) == expected, stream[:cut]
    assert fed([stream[at : at + 1] for at in range(len(stream))]) == expected


@pytest.mark.parametrize("case", CASES)
def test_equal_names_leave_it_as_it_is_but_for_its_lines_ends(case: str) -> None:
    stream, _ = CASES[case]
    assert fed([stream[:30], stream[30:]], None) == stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def test_the_name_is_written_as_json() -> None:
    assert fed([PLAIN, PLAIN], 'ü"\\') == PLAIN.replace(b'"inner"', b'"\xc3\xbc\\"\\\\"') * 2


def pieces(stream: bytes, rng: random.Random) -> Iterator[bytes]:
    """By whole events at times, as engines send them, else anywhere."""
    while stream:
        size = rng.choice((1, 7, 40, 300, stream.find(b"\n\n") + 2, stream.find(b"\n\n") + 2))
        yield stream[: size or 1]
        stream = stream[size or 1 :]


@pytest.mark.parametrize("seed", range(30))
def test_events_of_all_kinds_cut_anywhere_are_the_same_text(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    kinds = [case for name, case in CASES.items() if name != "no end"]
    chosen = [rng.choice(kinds) for _ in range(12)]
    stream, expected = (b"".join(parts) for parts in zip(*chosen, strict=True))
    for _ in range(10):
        assert fed(pieces(stream, rng)) == expected


def test_nothing_is_held_back_that_is_whole() -> None:
    events = Events("m")
    for end in (b"\n\n", b"\r\n\r\n", b"\r\r"):
        for _ in range(3):
            whole = PLAIN[:-2] + end
            assert events.feed(whole[:20]) == b""
            assert events.feed(whole[20:] + b"data") == PLAIN.replace(b"inner", b"m")
            assert events.feed(b": 1" + end) == b"data: 1\n\n"


def test_one_beyond_all_measure_goes_on_in_pieces_and_says_so() -> None:
    events = Events("m")
    assert events.feed(b"data: " + b"x" * MAX_EVENT) == b"data: " + b"x" * MAX_EVENT
    assert events.torn
    assert events.feed(b"y\n\n") == b"y\n\n"
    assert not events.torn
    assert events.feed(PLAIN) == PLAIN.replace(b"inner", b"m")


@pytest.mark.parametrize("case", CASES)
async def test_a_client_reads_the_same_of_whole_events_and_of_all_at_once(lab: Lab, case: str) -> None:
    """Each event in a chunk of its own, then all in one."""
    stream, expected = CASES[case]
    parts = [part + b"\n\n" for part in stream.split(b"\n\n")]
    parts[-1] = parts[-1][:-2]
    answers = [SSE + b"".join(map(chunk, filter(None, parts))) + END, SSE + chunk(stream) + END]
    await lab.answering(*answers, served="inner")
    wire = await lab.client()
    for _ in range(3):
        await wire.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ncontent-length: 13\r\n\r\n" + b'{"model":"m"}'
        )
        assert (await wire.response()).body == expected

"""Embeddings: base64 for engines that have none, texts for token numbers, parts of long lists."""

import base64
import json
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from wanting import NOTHING, PLAIN, Wants

from demo import bert
from launchers import xllamacpp_server
from launchers.base import Dialect
from router.errors import InvalidRequest, RouterError
from router.proxy.dialects import Adapter, NotUnderstood, adapt, embeddings, tokens

FLOATS = Dialect(base64=False)
NO_TOKENS = Dialect(tokens=False)
# What text-embeddings-inference answers, by its source (router/src/http/types.rs).
TEI = (
    '{"object":"list","data":[{"object":"embedding","embedding":[0.25,-1.5,3e-05],"index":0},'
    '{"object":"embedding","embedding":[1,0.1,-0.0],"index":1}],"model":"e","usage":{"prompt_tokens":4,'
    '"total_tokens":4}}'
)


DECODE = Wants(decode_openai_tokens=True)


def asking(body: Any, dialect: Dialect = PLAIN, wants: Wants = NOTHING) -> Adapter | None:
    return adapt("/v1/embeddings", json.dumps(body).encode(), dialect, wants)


def adapted(body: Any, dialect: Dialect = PLAIN, wants: Wants = NOTHING) -> Adapter:
    adapter = asking(body, dialect, wants)
    assert adapter is not None
    return adapter


def as_words(numbers: Sequence[int]) -> str:
    """A table of two tokens."""
    if any(number not in (1, 2) for number in numbers):
        raise ValueError("no token")
    return "".join("é " if number == 1 else 'say "x"' for number in numbers)


def decoding(body: str, dialect: Dialect = NO_TOKENS, wants: Wants = DECODE) -> list[str] | None:
    """The bodies for the engine, with the small table."""
    adapter = embeddings.adapt(body.encode(), None, dialect, wants, as_words)
    return None if adapter is None else [part.decode() for part in adapter.bodies]


def vector(embedding: Any) -> list[float]:
    if isinstance(embedding, str):
        return [number for (number,) in struct.iter_unpack("<f", base64.b64decode(embedding))]
    assert isinstance(embedding, list)
    return embedding


@pytest.mark.parametrize(
    ("body", "dialect", "wants"),
    [
        ({"input": "a"}, PLAIN, NOTHING),
        ({"input": ["a", "b"], "encoding_format": "base64"}, PLAIN, NOTHING),
        ({"input": [1, 2]}, PLAIN, NOTHING),
        ({"input": [[1, 2], [3]], "dimensions": 8}, PLAIN, NOTHING),
        ({"input": ["null"]}, FLOATS, NOTHING),
        ({"input": ["base64"], "encoding_format": "float"}, FLOATS, NOTHING),
        ({"input": ["a", "b"]}, NO_TOKENS, NOTHING),
        ({"input": ["a", "b"]}, NO_TOKENS, DECODE),
        ({"input": "a"}, Dialect(max_inputs=1), DECODE),
        ({"input": ["a", "b"]}, Dialect(max_inputs=2), Wants(max_inputs=3)),
        ({"input": [1, 2, 3]}, Dialect(max_inputs=2), NOTHING),
        ({"input": []}, NO_TOKENS, Wants(max_inputs=1)),
        ({"input": {"odd": 1}}, NO_TOKENS, DECODE),
        ({"input": [{"role": "user", "content": "a"}] * 3}, NO_TOKENS, Wants(max_inputs=1)),
        ({"messages": [{"role": "user", "content": "a"}]}, NO_TOKENS, Wants(max_inputs=1)),
    ],
)
def test_a_request_that_the_engine_understands_is_left_alone(body: Any, dialect: Dialect, wants: Wants) -> None:
    assert asking({"model": "m", **body}, dialect, wants) is None


@pytest.mark.parametrize("dialect", [PLAIN, FLOATS, NO_TOKENS, Dialect(max_inputs=9)])
def test_nulls_are_left_out_for_every_engine(dialect: Dialect) -> None:
    body = b'{"model":"m","dimensions":null,"input":["a", "\\u00e9"],"user":null,"encoding_format":"float"}'
    adapter = adapt("/v1/embeddings", body, dialect, NOTHING)
    assert adapter is not None
    assert adapter.bodies == (b'{"model":"m","input":["a", "\\u00e9"],"encoding_format":"float"}',)
    assert not adapter.whole


def test_an_engine_gets_only_the_members_that_it_takes() -> None:
    dialect = Dialect(takes={"/v1/embeddings": frozenset({"input"})})
    assert adapted({"model": "m", "input": "a", "user": "u"}, dialect).bodies == (b'{"model":"m","input":"a"}',)


def test_floats_are_encoded_where_the_engine_has_no_base64() -> None:
    """As the OpenAI SDK asks, and reads it: little-endian float32."""
    adapter = adapted({"input": ["a", "b"], "model": "m", "encoding_format": "base64"}, FLOATS)
    assert adapter.whole
    assert adapter.bodies == (b'{"input":["a", "b"],"model":"m"}',)
    given = json.loads(adapter.answer([TEI.encode()]))
    vectors = [vector(one["embedding"]) for one in given["data"]]
    assert vectors == [pytest.approx([0.25, -1.5, 3e-05]), pytest.approx([1, 0.1, 0])]
    for one, was in zip(given["data"], json.loads(TEI)["data"], strict=True):
        assert {**one, "embedding": None} == {**was, "embedding": None}
    assert {**given, "data": None} == {**json.loads(TEI), "data": None}


def test_an_engine_that_sends_base64_all_the_same_is_believed() -> None:
    adapter = adapted({"input": "a", "encoding_format": "base64"}, FLOATS)
    answer = b'{"data":[{"embedding":"AAAAAA==","index":0}]}'
    assert adapter.answer([answer]) == answer


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('{"input":[1,2]}', '{"input":"é say \\"x\\""}'),
        ('{"input":[ [1], [2, 1] ]}', '{"input":["é ","say \\"x\\"é "]}'),
        ('{"input":[[1]],"model":"m"}', '{"input":"é ","model":"m"}'),
        ('{"input":["a\\/b",[1]]}', '{"input":["a\\/b","é "]}'),
        ('{"input":[[]," "]}', '{"input":[""," "]}'),
    ],
)
@pytest.mark.parametrize("dialect", [PLAIN, NO_TOKENS], ids=["which takes tokens", "which takes none"])
def test_token_numbers_become_text_where_the_file_wants_it(given: str, told: str, dialect: Dialect) -> None:
    assert decoding(given, dialect) == [told]


def test_token_numbers_are_decoded_before_the_list_is_parted() -> None:
    wants = Wants(decode_openai_tokens=True, max_inputs=2)
    assert decoding('{"input":[[1],[1,1],[1]]}', wants=wants) == ['{"input":["é ","é é "]}', '{"input":["é "]}']
    assert decoding('{"input":[1,1,1]}', wants=wants) == ['{"input":"é é é "}']


@pytest.mark.parametrize("given", ["[3]", "[-1]", "[1.5]", "[[1],[3]]", '[[1],["1"]]', "[[true]]", "[[[1]]]"])
def test_numbers_that_are_no_tokens_are_refused(given: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decoding(f'{{"input":{given}}}')
    assert (refused.value.code, refused.value.param) == ("invalid_input", "input")


@pytest.mark.parametrize("given", [[1, 2], [[1], [2]], ["a", [1]]])
def test_token_numbers_for_an_engine_without_them_are_refused_with_the_remedy(given: Any) -> None:
    with pytest.raises(InvalidRequest, match="decode_openai_tokens: true") as refused:
        asking({"input": given}, NO_TOKENS)
    assert (refused.value.code, refused.value.param) == ("invalid_input", "input")


def test_without_tiktoken_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(RouterError, match=r"pip install 'engine-router\[tokens\]'") as refused:
        asking({"input": [1]}, NO_TOKENS, DECODE)
    assert (refused.value.status, refused.value.code) == (500, "tokens_unavailable")


def test_without_its_table_the_network_is_not_asked_and_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A load that was tried would fail otherwise: the address leads nowhere."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(RouterError, match="TIKTOKEN_CACHE_DIR") as refused:
        asking({"input": [1]}, NO_TOKENS, DECODE)
    assert refused.value.code == "tokens_unavailable"


@pytest.fixture
def small_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """tiktoken's real decoder, with a table of 256 bytes and one word for cl100k_base's."""
    from tiktoken import Encoding, registry  # noqa: PLC0415  # an extra

    ranks = {bytes([byte]): byte for byte in range(256)} | {b"hello": 256}
    encoding = Encoding("cl100k_base", pat_str=r"\w+|.", mergeable_ranks=ranks, special_tokens={"<|end|>": 300})
    monkeypatch.setitem(registry.ENCODINGS, "cl100k_base", encoding)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    (tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").touch()


@pytest.mark.usefixtures("small_table")
def test_tiktoken_makes_text_of_token_numbers() -> None:
    assert tokens.text_of([256, 32, 0xC3, 0xA9, 300]) == "hello é<|end|>"
    assert tokens.text_of([0xC3]) == "\N{REPLACEMENT CHARACTER}"  # a cut in the middle of a character
    assert adapted({"input": [[256], [33]]}, NO_TOKENS, DECODE).bodies == (b'{"input":["hello","!"]}',)


@pytest.mark.usefixtures("small_table")
@pytest.mark.parametrize("number", [257, -1, 1 << 40, 1 << 80])
def test_numbers_that_tiktoken_does_not_know_are_the_clients_fault(number: int) -> None:
    with pytest.raises(InvalidRequest, match="cl100k_base"):
        asking({"input": [256, number]}, NO_TOKENS, DECODE)


@pytest.mark.parametrize(
    ("dialect", "wants", "sizes"),
    [
        (Dialect(max_inputs=3), NOTHING, [3, 3, 1]),
        (PLAIN, Wants(max_inputs=3), [3, 3, 1]),
        (Dialect(max_inputs=5), Wants(max_inputs=2), [2, 2, 2, 1]),
        (Dialect(max_inputs=2), Wants(max_inputs=5), [2, 2, 2, 1]),
        (Dialect(max_inputs=1), NOTHING, [1] * 7),
    ],
)
@pytest.mark.parametrize("item", ["a\u00e9", [1, 2]], ids=["texts", "token lists"])
def test_a_list_above_the_limit_is_asked_in_parts(dialect: Dialect, wants: Wants, sizes: list[int], item: Any) -> None:
    inputs = [item if isinstance(item, list) else item + str(number) for number in range(7)]
    adapter = adapted({"model": "m", "input": inputs, "user": "u"}, dialect, wants)
    assert adapter.whole
    bodies = [json.loads(body) for body in adapter.bodies]
    assert [len(body["input"]) for body in bodies] == sizes
    assert [one for body in bodies for one in body["input"]] == inputs
    assert all(list(body) == ["model", "input", "user"] for body in bodies)


def part(count: int, **more: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "embedding": [0.5, number], "index": number} for number in range(count)]
    return {"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": count, "total_tokens": 2 * count},
            **more}  # fmt: skip


def joined(parts: Sequence[Any], count: int, encoding: str = "float") -> Any:
    adapter = adapted({"input": ["x"] * count, "encoding_format": encoding}, Dialect(max_inputs=2, base64=False))
    assert len(adapter.bodies) == len(parts)
    return json.loads(adapter.answer([json.dumps(one).encode() for one in parts]))


def test_parts_are_joined_in_order_with_their_usage_summed() -> None:
    given = joined([part(2, id="first"), part(2, id="second"), part(1)], 5)
    assert [one["index"] for one in given["data"]] == [0, 1, 2, 3, 4]
    assert [one["embedding"][1] for one in given["data"]] == [0, 1, 0, 1, 0]
    assert given["usage"] == {"prompt_tokens": 5, "total_tokens": 10}
    assert (given["id"], given["model"], given["object"]) == ("first", "e", "list")


def test_a_part_whose_vectors_come_out_of_order_is_put_in_order() -> None:
    first = part(2)
    first["data"].reverse()
    given = joined([first, part(1)], 3)
    assert [(one["index"], one["embedding"][1]) for one in given["data"]] == [(0, 0), (1, 1), (2, 0)]


def test_parts_can_be_joined_and_encoded() -> None:
    given = joined([part(2), part(1)], 3, "base64")
    assert [vector(one["embedding"]) for one in given["data"]] == [[0.5, 0], [0.5, 1], [0.5, 0]]


@pytest.mark.parametrize(
    ("usages", "summed"),
    [
        ([{"prompt_tokens": 1, "kind": "x"}, {"prompt_tokens": 2, "kind": "y"}], {"prompt_tokens": 3, "kind": "x"}),
        ([{"cost": 0.5}, {"cost": 1, "more": 2}], {"cost": 1.5, "more": 2}),
        ([{"details": None}, {"details": None}], {"details": None}),
        ([None, {"prompt_tokens": 2}], {"prompt_tokens": 2}),
        ([None, None], None),
    ],
)
def test_numbers_in_usage_are_summed_and_the_rest_is_the_first_parts(usages: list[Any], summed: Any) -> None:
    given = joined([part(2, usage=usages[0]), part(1, usage=usages[1])], 3)
    assert given["usage"] == summed


@pytest.mark.parametrize(
    "parts",
    [
        ["", ""], [[], []], [{}, {}], [part(2), {}], [part(2), {"data": None}], [part(2), {"data": [1]}],
        [part(2), part(2)], [part(1), part(2)], [part(2), part(0)], [part(2), part(1, usage=7)],
        [part(2), {"data": [{"index": "0"}]}], [part(2), {"data": [{"index": 0}]}],
        [part(2), {"data": [{"embedding": [None]}]}], [part(2), {"data": [{"embedding": [[1.0]]}]}],
    ],
)  # fmt: skip
def test_answers_without_the_vectors_asked_for_are_not_understood(parts: list[Any]) -> None:
    with pytest.raises(NotUnderstood):
        joined(parts, 3, "base64")


Ask = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """A real engine with a tiny model: `ask(body)` is its answer."""
    model = tmp_path_factory.mktemp("model") / "embedding.gguf"
    bert.write_gguf(model)
    argv = [sys.executable, "-I", "-u", xllamacpp_server.__file__, "--model", str(model), "--port", "0", "--embedding"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("listening on ").strip()

        def ask(body: bytes) -> bytes:
            headers = {"Content-Type": "application/json"}
            with urllib.request.urlopen(urllib.request.Request(f"{address}/v1/embeddings", body, headers)) as answer:
                given = answer.read()
            assert isinstance(given, bytes)
            return given

        yield ask
        process.kill()


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("limit", [1, 3, 7, 8])
def test_a_real_engines_parts_make_the_answer_that_it_gives_to_the_whole(
    llamacpp: Ask, encoding: str, limit: int
) -> None:
    inputs = ["fox", "dog", "é", "the quick brown fox", "seven small engines", "a", "lazy"]
    body = {"model": "m", "input": inputs, "encoding_format": encoding}
    whole = json.loads(llamacpp(json.dumps(body).encode()))
    adapter = asking(body, Dialect(max_inputs=limit))
    if limit >= len(inputs):
        assert adapter is None
    else:
        assert adapter is not None
        given = json.loads(adapter.answer([llamacpp(one) for one in adapter.bodies]))
        for part, one in zip(given["data"], whole["data"], strict=True):
            # What is computed at the same time changes the last digit.
            assert vector(part.pop("embedding")) == pytest.approx(vector(one.pop("embedding")), abs=1e-6)
        assert given == whole


def test_a_real_engines_floats_encode_to_its_own_base64(llamacpp: Ask) -> None:
    body = {"model": "m", "input": "fox", "encoding_format": "base64"}
    adapter = adapted(body, FLOATS)
    given = json.loads(adapter.answer([llamacpp(adapter.bodies[0])]))
    own = json.loads(llamacpp(json.dumps(body).encode()))
    assert given["data"][0]["embedding"] == own["data"][0]["embedding"]

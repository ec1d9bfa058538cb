"""What the file changes in requests: `drop`, `default`, `set`; and what an engine does not take."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from wanting import NOTHING, PLAIN

from launchers.base import Dialect
from router.proxy.dialects import NotUnderstood, adapt, edited, may_adapt


class Edits(msgspec.Struct):
    drop: Sequence[str] = ()
    set: Mapping[str, Any] = {}
    default: Mapping[str, Any] = {}


@pytest.mark.parametrize(
    ("edits", "body", "becomes"),
    [
        (Edits(drop=["user"]), '{"model":"m","user":"u","n":1}', '{"model":"m","n":1}'),
        (Edits(drop=["user"]), '{"model":"m","user":null}', '{"model":"m"}'),
        (Edits(default={"temperature": 0.5}), '{"temperature":null}', '{"temperature":0.5}'),
        (Edits(default={"a": {"b": 1}}), '{"a":null}', '{"a":{"b":1}}'),
        (
            Edits(drop=["stream_options.include_usage"]),
            '{"stream_options":{"include_usage":true,"x":1},"model":"m"}',
            '{"stream_options":{"x":1},"model":"m"}',
        ),
        (Edits(drop=["a.b.c"]), '{"a":{"b":{"c":1,"d":2}}}', '{"a":{"b":{"d":2}}}'),
        (Edits(drop=["a.model"]), '{"a":{"model":1},"model":"m"}', '{"a":{},"model":"m"}'),
        (Edits(set={"temperature": 0.5}), '{"temperature":1,"model":"m"}', '{"temperature":0.5,"model":"m"}'),
        (Edits(set={"seed": None}), '{"model":"m","seed":7}', '{"model":"m","seed":null}'),
        (
            Edits(set={"chat_template_kwargs": {"enable_thinking": False}}),
            '{"model":"m"}',
            '{"model":"m","chat_template_kwargs":{"enable_thinking":false}}',
        ),
        (
            Edits(set={"chat_template_kwargs": {"enable_thinking": False}}),
            '{"chat_template_kwargs":{"enable_thinking":true,"x":[1, 2]}}',
            '{"chat_template_kwargs":{"enable_thinking":false,"x":[1, 2]}}',
        ),
        (Edits(set={"a": {"b": 1}}), '{"a":"text"}', '{"a":{"b":1}}'),
        (Edits(set={"a": [2]}), '{"a":[1, 3]}', '{"a":[2]}'),
        (Edits(default={"temperature": 0.5}), '{"model":"m"}', '{"model":"m","temperature":0.5}'),
        (Edits(default={"a": {"b": {"c": 1, "d": 2}}}), '{"a":{"b":{"c":9}}}', '{"a":{"b":{"c":9,"d":2}}}'),
        (Edits(drop=["n"], default={"n": 2}, set={"m": 3}), '{"n":1}', '{"n":2,"m":3}'),
        (Edits(default={"n": 2}, set={"n": 3}), "{}", '{"n":3}'),
    ],
)
def test_members_are_dropped_defaulted_and_set_in_this_order(edits: Edits, body: str, becomes: str) -> None:
    assert edited(body.encode(), edits).decode() == becomes


@pytest.mark.parametrize(
    ("edits", "body"),
    [
        (Edits(default={"temperature": 0.5}), '{ "temperature" : 1 }'),
        (Edits(default={"a": {"b": 1}}), '{"a": "text"}'),
        (Edits(drop=["user", "a.b", "c.d.e"]), '{ "a": 1, "c": {"d":[{"e":1}]}}'),
        (Edits(drop=["model", "model.x"], set={"model": "other"}, default={"model": "other"}), '{"model": "m"}'),
        (Edits(set={"model": "other"}), "{}"),
    ],
)
def test_what_needs_no_change_keeps_every_byte(edits: Edits, body: str) -> None:
    assert edited(body.encode(), edits) == body.encode()


def test_what_is_not_touched_keeps_its_bytes() -> None:
    odd = r'"prompt":"\u00e9\/ é 😀 \ud83d\ude00","big":123456789012345678901234567890,"f":1.50e+03,"o":{"b": [ 1 ] }'
    body = f'{{{odd},"drop":1,"nested":{{{odd},"drop":1}}}}'
    changed = edited(body.encode(), Edits(drop=["drop", "nested.drop"], set={"n": 1}))
    assert changed.decode() == f'{{{odd},"nested":{{{odd}}},"n":1}}'


@pytest.mark.parametrize(
    ("dialect", "body", "becomes"),
    [
        (Dialect(nulls=False), '{"model":"m","stop":null,"n":1}', '{"model":"m","n":1}'),
        (Dialect(nulls=False), '{"model":"m","stop":"null","a":{"b":null}}', None),
        (Dialect(nulls=False), '{"model":"m"}', None),
        (PLAIN, '{"model":"m","stop":null}', None),
        (Dialect(takes={"/v1/completions": frozenset({"prompt"})}), '{"model":"m","stop":null}', None),
        (
            Dialect(takes={"/v1/chat/completions": frozenset({"messages", "stop"})}),
            '{"user":"u","messages":[ ],"model":"m","stop":null}',
            '{"messages":[ ],"model":"m","stop":null}',
        ),
        (
            Dialect(takes={"/v1/chat/completions": frozenset({"messages", "stop"})}, nulls=False),
            '{"user":"u","messages":[ ],"model":"m","stop":null}',
            '{"messages":[ ],"model":"m"}',
        ),
    ],
)
def test_an_engine_gets_only_the_members_that_it_takes(dialect: Dialect, body: str, becomes: str | None) -> None:
    adapter = adapt("/v1/chat/completions", body.encode(), dialect, NOTHING)
    if becomes is None:
        assert adapter is None
    else:
        assert adapter is not None
        assert [body.decode() for body in adapter.bodies] == [becomes]
        assert not adapter.whole
        assert adapter.answer([b"data: as it is"]) == b"data: as it is"


@pytest.mark.parametrize(
    ("public", "dialect", "may"),
    [
        ("/v1/chat/completions", PLAIN, False),
        ("/v1/chat/completions", Dialect(logits=True, base64=False, tokens=False, texts=True, max_inputs=3), False),
        ("/v1/chat/completions", Dialect(nulls=False), True),
        ("/v1/chat/completions", Dialect(takes={"/v1/chat/completions": frozenset()}), True),
        ("/v1/messages", Dialect(takes={"/v1/chat/completions": frozenset()}), False),
        ("/v1/embeddings", PLAIN, True),
        ("/v1/rerank", PLAIN, True),
        ("/v2/rerank", PLAIN, True),
        ("/v1/score", PLAIN, False),
    ],
)
def test_paths_that_can_never_be_adapted_are_known_beforehand(public: str, dialect: Dialect, may: bool) -> None:
    assert may_adapt(public, dialect, NOTHING) is may
    if not may:
        body = {"query": "q", "documents": ["d"], "input": [[1]] * 9, "encoding_format": "base64", "stop": None}
        assert adapt(public, json.dumps(body).encode(), dialect, NOTHING) is None


def test_an_answer_that_is_not_understood_is_a_value_error() -> None:
    assert issubclass(NotUnderstood, ValueError)

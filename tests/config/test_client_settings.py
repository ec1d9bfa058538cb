"""`drop`, `set`, `default`, aliases with their own, and what else is done for the clients of a model."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config import Config, Edits, EngineSpec, GroupSpec, RemoteSpec, Wants, first_share, launch, load

EXAMPLE = Path(__file__).resolve().parents[2] / "configs/clients.yaml"
KEY = "hunter2-hunter2"


def read(folder: Path, models: dict[str, Any], **more: Any) -> Config:
    (folder / "router.yaml").write_text(yaml.safe_dump({"models": models, **more}, sort_keys=False))
    return load(folder / "router.yaml", list, {"KEY": KEY, "N": "7"})


def far(**fields: Any) -> dict[str, Any]:
    return {"url": "https://h/v1", **fields}


def remote(folder: Path, **fields: Any) -> RemoteSpec:
    spec = read(folder, {"m": far(**fields), "other": far()}).models[0]
    assert isinstance(spec, RemoteSpec)
    return spec


def vllm(folder: Path, **fields: Any) -> EngineSpec:
    (folder / "venv/bin").mkdir(parents=True, exist_ok=True)
    (folder / "venv/bin/vllm").touch()
    spec = read(folder, {"m": {"engine": "vllm", "environment": "venv", "model": "org/name", **fields}}).models[0]
    assert isinstance(spec, EngineSpec)
    return spec


def test_a_model_without_edits_has_none_for_any_name(tmp_path: Path) -> None:
    assert remote(tmp_path, aliases={"a": None, "b": {}, "c": {"set": None}}).edits == {}


def test_each_name_has_the_models_edits(tmp_path: Path) -> None:
    spec = remote(tmp_path, aliases=["a"], drop=["user", "stream_options.include_usage"], default={"seed": 1})
    edits = Edits(drop=("user", "stream_options.include_usage"), default={"seed": 1})
    assert spec.edits == {"m": edits, "a": edits}


def test_an_alias_alone_may_have_edits(tmp_path: Path) -> None:
    nothink = {"chat_template_kwargs": {"enable_thinking": False}}
    spec = remote(tmp_path, aliases={"a": {"set": nothink}, "b": None})
    assert (spec.aliases, spec.edits) == (("a", "b"), {"a": Edits(set=nothink)})


@pytest.mark.parametrize(
    ("model", "alias", "expected"),
    [
        ({"set": {"a": 1}}, {"set": {"a": 2, "b": 3}}, Edits(set={"a": 2, "b": 3})),
        ({"set": {"a": {"x": 1, "y": 1}}}, {"set": {"a": {"y": 2}}}, Edits(set={"a": {"x": 1, "y": 2}})),
        ({"set": {"a": {"x": 1}}}, {"set": {"a": None}}, Edits(set={"a": None})),
        ({"set": {"a": [1]}}, {"set": {"a": [2]}}, Edits(set={"a": [2]})),
        ({"default": {"a": {"x": 1}}}, {"default": {"a": {"y": 2}}}, Edits(default={"a": {"x": 1, "y": 2}})),
        ({"drop": ["a", "b"]}, {"drop": ["b", "c.d"]}, Edits(drop=("a", "b", "c.d"))),
        ({"set": {"a": 1, "b": 1}}, {"drop": ["a"]}, Edits(drop=("a",), set={"b": 1})),
        ({"set": {"a": {"x": 1, "y": 1}}}, {"drop": ["a.x"]}, Edits(drop=("a.x",), set={"a": {"y": 1}})),
        ({"default": {"a": {"x": 1}}}, {"drop": ["a"]}, Edits(drop=("a",))),
        ({"drop": ["a"]}, {"set": {"a": 1}}, Edits(drop=("a",), set={"a": 1})),
    ],
)
def test_the_edits_of_an_alias_lie_over_the_models(
    tmp_path: Path, model: dict[str, Any], alias: dict[str, Any], expected: Edits
) -> None:
    spec = remote(tmp_path, aliases={"a": alias}, **model)
    assert spec.edits["a"] == expected
    assert spec.edits["m"] == remote(tmp_path, **model).edits["m"]


def test_a_mapping_that_is_dropped_and_set_takes_the_place_of_the_clients(tmp_path: Path) -> None:
    edits = remote(tmp_path, drop=["a"], set={"a": {"x": 1}}).edits["m"]
    assert edits == Edits(drop=("a",), set={"a": {"x": 1}})


def test_values_are_what_yaml_makes_of_them_and_variables_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "router.yaml").write_text(
        "models:\n  m:\n    url: http://h\n    set:\n      top_k: ${N}\n      day: 2024-01-01\n      on: no\n"
        "      key: ${KEY}\n      list: [1, 1.5, null, {a: true}]"
    )
    spec = load(tmp_path / "router.yaml", list, {"KEY": KEY, "N": "7"}).models[0]
    assert spec.edits["m"].set == {
        "top_k": 7, "day": "2024-01-01", "on": "no", "key": KEY, "list": [1, 1.5, None, {"a": True}],
    }  # fmt: skip


def test_no_value_of_an_edit_is_shown(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        {
            "m": far(set={"a": KEY, "b": {"c": [KEY]}}, aliases={"x": {"default": {"d": KEY}}}),
            "g": {"group": {"m": 1}, "set": {"a": KEY}},
        },
    )
    assert "hunter2" not in repr(config)
    assert "Edits(drop=[], set=['a', 'b'], default=['d'])" in repr(config.models[0])


def test_a_group_is_a_name_over_models(tmp_path: Path) -> None:
    models = {
        "whole": {"group": {"m": 3, "alias": 1}, "aliases": {"w": {"drop": ["x"]}}, "fallback": ["cloud"]},
        "m": far(kind="embedding"),
        "other": far(kind="embedding", aliases=["alias"]),
        "cloud": far(kind="embedding", fallback=["whole"]),
    }
    config = read(tmp_path, models)
    assert [model.name for model in config.models] == ["m", "other", "cloud"]
    assert config.groups == (
        GroupSpec(
            name="whole", kind="embedding", aliases=("w",), members=(("m", 3), ("alias", 1)),
            edits={"w": Edits(drop=("x",))}, fallback=("cloud",), info={},
        ),
    )  # fmt: skip


def test_two_models_may_stand_in_for_each_other(tmp_path: Path) -> None:
    config = read(tmp_path, {"a": far(fallback=["b"]), "b": far(fallback=["a"])})
    assert [model.fallback for model in config.models] == [("b",), ("a",)]


def test_what_is_done_for_the_clients_of_a_model(tmp_path: Path) -> None:
    embedding = remote(tmp_path, kind="embedding", decode_openai_tokens=True, max_inputs=7)
    rerank = remote(tmp_path, kind="rerank", normalize_scores=True, info={"dimensions": 8, "mine": [1]})
    assert embedding.wants == Wants(decode_openai_tokens=True, max_inputs=7)
    assert rerank.wants == Wants(normalize_scores=True)
    assert rerank.info == {"dimensions": 8, "mine": [1]}
    assert remote(tmp_path, normalize_scores=False).wants == Wants()


def test_keepalive_and_retry_budget_may_stand_in_defaults(tmp_path: Path) -> None:
    defaults = {"keepalive": 0, "retry_budget": 1}
    one, two, usual = (
        read(tmp_path, {"m": far(**fields)}, defaults=given).models[0].limits
        for fields, given in (({}, defaults), ({"keepalive": "2s", "retry_budget": 0.5}, defaults), ({}, {}))
    )
    assert (one.keepalive, one.retry_budget) == (0, 1)
    assert (two.keepalive, two.retry_budget) == (2, 0.5)
    assert (usual.keepalive, usual.retry_budget) == (10, 0.2)


def test_adapters_are_found_beside_the_file_or_on_the_hub_and_told_to_the_launcher(tmp_path: Path) -> None:
    (tmp_path / "sql").mkdir()
    (tmp_path / "one.gguf").touch()
    spec = vllm(tmp_path, lora={"m-sql": "./sql", "m-one": "one.gguf", "m-hub": "org/adapter"}, set={"a": 1})
    found = {"m-sql": f"{tmp_path}/sql", "m-one": f"{tmp_path}/one.gguf", "m-hub": "org/adapter"}
    assert spec.lora == found
    assert launch(spec, port=1, key="", gpus=first_share(spec)).lora == found
    assert set(spec.edits) == {"m", *found}


def test_the_example_for_clients_is_without_a_fault() -> None:
    """With the demo's models, and the wheel of llama.cpp that is in the router's own environment."""
    config = load(EXAMPLE, list, {})
    nothink = {"chat_template_kwargs": {"enable_thinking": False}}
    usual = Edits(drop=("user", "metadata"), default={"max_tokens": 2048})
    assert config.models[0].edits == {
        "qwen": usual,
        "gpt-4o-mini": usual,
        "qwen-nothink": Edits(drop=usual.drop, default=usual.default, set=nothink),
        "qwen-exact": Edits(drop=usual.drop, default=usual.default, set={"temperature": 0, "seed": 1}),
    }
    assert [group.members for group in config.groups] == [(("qwen", 3), ("spare", 1))]

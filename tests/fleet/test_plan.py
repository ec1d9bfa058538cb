"""What a changed file would do, model by model and setting by setting."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import fake

from router.config import Config, load
from router.fleet.plan import compare
from router.fleet.rows import Plan, Step

KEYS = {"ONE": "the-first-of-the-keys", "OTHER": "the-second-of-the-keys"}


def remote(**fields: Any) -> dict[str, Any]:
    return {"url": "https://api.example.com/v1", "api_key": "${ONE}", **fields}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gguf").mkdir()
    for name in ("one.gguf", "other.gguf", "gguf/only.gguf"):
        (tmp_path / name).touch()
    (tmp_path / "llama-server").touch(mode=0o700)
    return tmp_path


def config(folder: Path, models: dict[str, Any], **settings: Any) -> Config:
    document = {"listen": "127.0.0.1:0", "state_dir": str(folder / "state"), "models": models, **settings}
    file = folder / "router.yaml"
    file.write_text(json.dumps(document))
    return load(file, list, KEYS)


def llama(folder: Path, **fields: Any) -> dict[str, Any]:
    return {"engine": "llamacpp", "environment": str(folder / "llama-server"), "model": "one.gguf", **fields}


def plan(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> Plan:
    return compare(config(folder, old), config(folder, new))


def one(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> Step:
    """What becomes of the model `m`, beside one that stays."""
    far = {"far": remote()}
    step, other = plan(folder, {"m": old, **far}, {"m": new, **far}).steps
    assert other == Step("far", "keep")
    return step


@pytest.mark.parametrize(
    ("new", "action", "fields"),
    [
        (fake(), "keep", ()),
        (fake(aliases=["also"]), "update", ("aliases",)),
        (fake(queue_size=7, stall_timeout="9s"), "update", ("queue_size", "stall_timeout")),
        (fake(liveness_interval="2s", deep_probe=True), "update", ("liveness_interval", "deep_probe")),
        (fake(stop_grace="9s"), "update", ("stop_grace",)),
        (fake(start_timeout="9s", retire_timeout="9s"), "update", ("start_timeout", "retire_timeout")),
        (fake(memory="1GiB"), "update", ("memory",)),
        (fake(keepalive="2s", retry_budget=0.5), "update", ("keepalive", "retry_budget")),
        (fake(set={"top_k": 1}, drop=["user"]), "update", ("set", "drop")),
        (fake(default={"top_k": 1}, info={"dimensions": 2}), "update", ("default", "info")),
        (fake(aliases={"also": {"set": {"top_k": 1}}}), "update", ("aliases",)),
        (fake(fallback=["far"]), "update", ("fallback",)),
        (fake(replicas=3), "scale", ("replicas",)),
        (fake(replicas=3, queue_size=7), "scale", ("queue_size", "replicas")),
        (fake("--child"), "replace", ("options.argv",)),
        (fake(options={"concurrency": 1}), "replace", ("options.concurrency",)),
        (fake(env={"A": "1"}), "replace", ("env.A",)),
        (fake(args=["--child"]), "replace", ("args",)),
        (fake(gpus="none"), "replace", ("gpus",)),
        (fake(kind="embedding"), "replace", ("kind",)),
        (fake(env={"A": "1"}, replicas=3), "replace", ("env.A", "replicas")),
        (remote(), "replace", ("engine",)),
    ],
)
def test_what_a_change_of_a_model_does_and_which_fields_it_is(
    folder: Path, new: dict[str, Any], action: str, fields: tuple[str, ...]
) -> None:
    step = one(folder, fake(), new)
    assert (step.model, step.action) == ("m", action)
    assert set(step.fields) == set(fields)


@pytest.mark.parametrize(
    ("new", "fields"),
    [
        ({"url": "http://api.example.com/v1"}, ("url",)),
        ({"url": "https://other.example.com:8443/api/v1"}, ("url",)),
        ({"api_key": "${OTHER}"}, ("api_key",)),
        ({"upstream_model": "gpt"}, ("upstream_model",)),
        ({"aliases": ["also"]}, ("aliases",)),
    ],
)
def test_a_server_elsewhere_is_updated_under_the_names_of_the_file(
    folder: Path, new: dict[str, Any], fields: tuple[str, ...]
) -> None:
    assert one(folder, remote(), remote(**new)) == Step("m", "update", fields)


@pytest.mark.parametrize(
    ("new", "fields"),
    [
        ({"model": "other.gguf"}, {"model"}),
        ({"options": {"context": 4096, "gpu_layers": 1}}, {"options.context", "options.gpu_layers"}),
        ({"accelerator": "rocm", "gpus": ["0"]}, {"accelerator", "gpus"}),
    ],
)
def test_an_engine_with_other_weights_or_options_is_replaced(
    folder: Path, new: dict[str, Any], fields: set[str]
) -> None:
    step = one(folder, llama(folder), llama(folder, **new))
    assert (step.action, set(step.fields)) == ("replace", fields)


def test_an_engine_from_another_environment_is_replaced(folder: Path) -> None:
    (folder / "bin").mkdir()
    (folder / "bin/llama-server").touch(mode=0o700)
    step = one(folder, llama(folder), llama(folder, environment=str(folder / "bin/llama-server")))
    assert step == Step("m", "replace", ("environment",))


def test_an_engine_with_other_adapters_is_replaced(folder: Path) -> None:
    (folder / "vllm").touch(mode=0o700)
    model = {"engine": "vllm", "environment": str(folder / "vllm"), "model": "org/name"}
    old, new = model | {"lora": {"sql": "org/sql"}}, model | {"lora": {"sql": "org/other"}}
    assert one(folder, old, old) == Step("m", "keep")
    assert one(folder, old, new) == Step("m", "replace", ("lora",))


def test_an_alias_with_other_edits_and_what_is_wanted_of_embeddings_are_updates(folder: Path) -> None:
    old = remote(kind="embedding", aliases={"also": {"set": {"a": 1}}})
    new = remote(kind="embedding", aliases={"also": {"set": {"a": 2}}}, max_inputs=7, decode_openai_tokens=True)
    step = one(folder, old, new)
    assert (step.action, set(step.fields)) == ("update", {"aliases", "max_inputs", "decode_openai_tokens"})


def test_a_change_for_all_names_is_told_once_and_an_alias_that_only_follows_is_not(folder: Path) -> None:
    old, new = (remote(aliases=["also"], set={"a": number}) for number in (1, 2))
    assert one(folder, old, new) == Step("m", "update", ("set",))


@pytest.mark.parametrize(
    ("old", "new", "step"),
    [
        (None, {"group": {"a": 1}}, Step("g", "add")),
        ({"group": {"a": 1}}, None, Step("g", "remove")),
        ({"group": {"a": 1}}, {"group": {"a": 1}}, Step("g", "keep")),
        ({"group": {"a": 1}}, {"group": {"a": 1, "b": 2}}, Step("g", "update", ("group",))),
        ({"group": {"a": 1}}, {"group": {"a": 2}}, Step("g", "update", ("group",))),
        (
            {"group": {"a": 1}},
            {"group": {"a": 1}, "fallback": ["b"], "set": {"x": 1}},
            Step("g", "update", ("set", "fallback")),
        ),
        ({"group": {"a": 1}}, remote(), Step("g", "replace", ("group",))),
        (fake(), {"group": {"a": 1}}, Step("g", "replace", ("group",))),
    ],
)
def test_a_group_is_a_step_of_its_own(
    folder: Path, old: dict[str, Any] | None, new: dict[str, Any] | None, step: Step
) -> None:
    members = {"a": remote(), "b": remote()}
    found = plan(folder, members | ({"g": old} if old else {}), members | ({"g": new} if new else {}))
    assert found == Plan(found.steps)
    assert [found for found in found.steps if found.model not in members] == [step]


def test_a_group_of_models_that_have_become_another_kind_is_no_change_of_its_own(folder: Path) -> None:
    old, new = (config(folder, {"a": remote(kind=kind), "g": {"group": {"a": 1}}}) for kind in ("chat", "embedding"))
    assert compare(old, new).steps == (Step("a", "update", ("kind",)), Step("g", "keep"))


def test_another_engine_replaces(folder: Path) -> None:
    step = one(folder, fake(), llama(folder))
    assert step.action == "replace"
    assert "engine" in step.fields


def test_variables_of_the_environment_that_come_change_and_go_are_told_by_name_and_never_by_value(folder: Path) -> None:
    old, new = {"STAYS": "s3cret", "CHANGES": "s3cret", "GOES": "s3cret"}, {"STAYS": "s3cret", "CHANGES": "s4cret"}
    step = one(folder, fake(env=old), fake(env={**new, "COMES": "s5cret"}))
    assert step == Step("m", "replace", ("env.CHANGES", "env.GOES", "env.COMES"))


def test_no_value_of_any_kind_is_in_a_plan(folder: Path) -> None:
    old = config(
        folder, {"m": fake("--say", "w0rd"), "r": remote(set={"a": "w0rd"})}, keys=[{"name": "n", "key": "${ONE}"}]
    )
    new = config(folder, {"m": fake("--say", "w1rd"), "r": remote(api_key="${OTHER}", set={"a": "w1rd"})})
    shown = repr(compare(old, new))
    assert not any(word in shown for word in ("w0rd", "w1rd", "serving.py", *KEYS.values()))


def test_a_model_whose_old_folder_can_no_longer_be_understood_is_replaced(folder: Path) -> None:
    """As somebody has put a second file beside the first, and the new file says which one is meant."""
    old = config(folder, {"m": llama(folder, model="gguf")})
    (folder / "gguf/another.gguf").touch()
    new = config(folder, {"m": llama(folder, model="gguf/another.gguf")})
    assert compare(old, new).steps == (Step("m", "replace", ("model",)),)


def test_steps_come_in_the_order_of_the_new_file_and_then_what_goes(folder: Path) -> None:
    old = {"goes": fake(), "stays": fake(), "goes-too": fake()}
    new = {"comes": fake(), "stays": fake(), "comes-too": remote()}
    found = [(step.model, step.action) for step in plan(folder, old, new).steps]
    assert found == [
        ("comes", "add"), ("stays", "keep"), ("comes-too", "add"), ("goes", "remove"), ("goes-too", "remove"),
    ]  # fmt: skip


def test_another_name_is_one_model_less_and_one_more(folder: Path) -> None:
    assert plan(folder, {"m": fake()}, {"n": fake()}).steps == (Step("n", "add"), Step("m", "remove"))


def test_what_defaults_say_is_the_models_own_change(folder: Path) -> None:
    models = {"m": fake(), "n": fake(queue_size=7)}
    found = compare(config(folder, models), config(folder, models, defaults={"queue_size": 7}))
    assert found == Plan((Step("m", "update", ("queue_size",)), Step("n", "keep")))


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ()),
        ({"max_body": "1MiB"}, ("max_body",)),
        ({"keys": [{"name": "n", "key": "${ONE}"}]}, ("keys",)),
        ({"log": {"access": False, "max_size": "1MiB"}}, ("log.access", "log.max_size")),
        ({"drain_timeout": "1s", "orphan_grace": "1s"}, ("drain_timeout", "orphan_grace")),
    ],
)
def test_settings_of_the_whole_router_are_named_as_in_the_file(
    folder: Path, settings: dict[str, Any], names: tuple[str, ...]
) -> None:
    found = compare(config(folder, {"m": fake()}), config(folder, {"m": fake()}, **settings))
    assert found == Plan((Step("m", "keep"),), names)


def test_a_key_of_another_name_or_value_is_a_change_of_the_keys(folder: Path) -> None:
    old = config(folder, {"m": fake()}, keys=[{"name": "n", "key": "${ONE}"}])
    for key in ({"name": "o", "key": "${ONE}"}, {"name": "n", "key": "${OTHER}"}):
        assert compare(old, config(folder, {"m": fake()}, keys=[key])).settings == ("keys",)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"listen": "127.0.0.1:8123"}, "listen"),
        ({"listen": "[::1]:0"}, "listen"),
        ({"listen": "[::1]:8123"}, "listen"),
        ({"state_dir": "/tmp/another"}, "state_dir"),
    ],
)
def test_what_a_router_has_until_its_end_is_refused_once_with_a_remedy(
    folder: Path, settings: dict[str, Any], name: str
) -> None:
    found = compare(config(folder, {"m": fake()}), config(folder, {"m": fake()}, **settings))
    assert found.settings == (name,)
    (refused,) = found.refused
    assert refused.startswith(f"`{name}` cannot change while the router runs")
    assert "put it back" in refused


def test_both_are_refused_at_once(folder: Path) -> None:
    new = config(folder, {"m": fake()}, listen="127.0.0.1:8123", state_dir="/tmp/another")
    found = compare(config(folder, {"m": fake()}), new)
    assert [line.split("`")[1] for line in found.refused] == ["listen", "state_dir"]

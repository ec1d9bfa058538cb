"""What a file that is fine comes to."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from router.config import Config, ConfigError, EngineSpec, RemoteSpec, find_file, load, state_dir
from router.config.values import parse_duration, parse_size, show_duration, show_size


class Gpu:
    def __init__(self, index: int) -> None:
        self.index, self.uuid = index, f"GPU-{index}"


ONE = "models: {a: {url: http://h/v1}}\n"


def read(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> Config:
    (folder / "router.yaml").write_bytes(text.encode())
    return load(folder / "router.yaml", lambda: [Gpu(0), Gpu(1)], environment or {})


def engine(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> EngineSpec:
    """The spec of a vLLM model with `text` in its flow mapping."""
    (folder / "venv/bin").mkdir(parents=True, exist_ok=True)
    (folder / "venv/bin/vllm").touch()
    config = read(folder, f"models: {{m: {{engine: vllm, environment: venv, model: org/name, {text}}}}}", environment)
    spec = config.models[0]
    assert isinstance(spec, EngineSpec)
    return spec


@pytest.mark.parametrize("text", ["\ufeff" + ONE, ONE.replace("\n", "\r\n"), ONE + "keys:\ndefaults:\nlog:\n"])
def test_byte_order_marks_line_ends_and_empty_keys_are_fine(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text).models[0].name == "a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("'[::1]:8000'", ("::1", 8000)),
        ("localhost:0", ("localhost", 0)),
        ("127.1.2.3:1", ("127.1.2.3", 1)),
        ("${HOST}:${PORT}", ("127.0.0.1", 81)),
    ],
)
def test_addresses_of_this_machine_need_no_key(tmp_path: Path, text: str, expected: tuple[str, int]) -> None:
    config = read(tmp_path, f"{ONE}listen: {text}", {"HOST": "127.0.0.1", "PORT": "81"})
    assert (config.host, config.port) == expected


@pytest.mark.parametrize("more", ["auth: none", "keys: [{name: a, key: 12345678}]"])
def test_other_addresses_need_keys_or_a_word(tmp_path: Path, more: str) -> None:
    assert read(tmp_path, f"{ONE}listen: 0.0.0.0:80\n{more}").host == "0.0.0.0"


def test_a_key_is_kept_as_its_hash(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"0123456789").digest()
    text = f"keys: [{{name: a, key: 0123456789}}, {{name: b, hash: sha256:{'AB' * 32}}}]"
    assert [key.digest for key in read(tmp_path, ONE + text).keys] == [digest, b"\xab" * 32]


def test_numbers_where_text_is_wanted_are_taken_as_they_are_written(tmp_path: Path) -> None:
    spec = engine(tmp_path, "aliases: [010, 1.0, no], args: [--n, 064, 1e-3], env: {OMP_NUM_THREADS: 1, N: no}")
    assert spec.aliases == ("010", "1.0", "no")
    assert spec.args == ("--n", "064", "1e-3")
    assert spec.env == {"OMP_NUM_THREADS": "1", "N": "no"}


@pytest.mark.parametrize("name", ["on", "no", "123", "1.0", "null", "true", "2024-01-01", "Qwen/Qwen3:8b"])
def test_a_name_is_text_whatever_yaml_takes_it_for(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, f"models: {{{name}: {{url: http://h}}}}").models[0].name == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${X}", "true"),
        ("'${X}'", "true"),
        ("${NONE:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("'a${X}b'", "atrueb"),
        ("'$${X}'", "${X}"),
        ("'$X'", "$X"),
        ("${Y}", "${X}"),
    ],
)
def test_variables(tmp_path: Path, text: str, expected: str) -> None:
    environment = {"X": "true", "EMPTY": "", "Y": "${X}"}
    spec = read(tmp_path, f"models:\n  m:\n    url: http://h\n    upstream_model: {text}", environment).models[0]
    assert isinstance(spec, RemoteSpec)
    assert spec.upstream_model == expected


def test_variables_in_nested_lists_and_as_numbers(tmp_path: Path) -> None:
    spec = engine(tmp_path, "args: ['${A}', '${N}']", {"A": "x", "N": "2"})
    assert spec.args == ("x", "2")
    text = "defaults:\n  queue_size: ${N}\nlog:\n  keep: ${N}\n"
    config = read(tmp_path, text + ONE, {"N": "2"})
    assert (config.log_keep, config.models[0].limits.queue_size) == (2, 2)


def test_below_options_the_launchers_variables_stay(tmp_path: Path) -> None:
    text = "models: {m: {engine: command, options: {argv: [sh, '${PORT}', '${X}']}}}"
    spec = read(tmp_path, text, {"X": "x", "PORT": "1"}).models[0]
    assert isinstance(spec, EngineSpec)
    assert spec.options.argv == ["sh", "${PORT}", "x"]


@pytest.mark.parametrize(
    ("text", "mode", "count", "ids"),
    [
        ("", "inherit", 0, ()),
        ("gpus: none", "none", 0, ()),
        ("gpus: 0", "none", 0, ()),
        ("gpus: auto", "count", 1, ()),
        ("gpus: 2", "count", 2, ()),
        ("gpus: [1]", "ids", 0, ("1",)),
        ("gpus: [GPU-1, 0]", "ids", 0, ("1", "0")),
        ("gpus: GPU-1", "ids", 0, ("1",)),
    ],
)
def test_gpus(tmp_path: Path, text: str, mode: str, count: int, ids: tuple[str, ...]) -> None:
    request = engine(tmp_path, text).gpus
    assert (request.mode, request.count, request.ids) == (mode, count, ids)


def test_a_replicas_share_of_the_gpus_is_what_the_launcher_is_asked_about(tmp_path: Path) -> None:
    assert engine(tmp_path, "gpus: [0, 1], replicas: 2, options: {tensor_parallel_size: 1}").replicas == 2


def test_a_models_own_words_come_before_those_of_defaults(tmp_path: Path) -> None:
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/vllm").touch()
    config = read(
        tmp_path,
        "x-common: &common {engine: vllm, model: org/name, start_timeout: 1m}\n"
        "defaults: {environment: venv, env: {A: 1, B: 1}, start_timeout: 2m, stop_grace: 3s}\n"
        "models:\n  a: {<<: *common, env: {B: 2}}\n  b: {<<: *common, start_timeout: 5m}",
    )
    one, two = config.models
    assert isinstance(one, EngineSpec)
    assert isinstance(two, EngineSpec)
    assert one.env == {"A": "1", "B": "2"}
    assert (one.start_timeout, two.start_timeout, one.stop_grace) == (60, 300, 3)


def test_an_engine_with_a_library_of_its_own_is_asked_for_a_model_by_its_name_there(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ollama").touch()
    (tmp_path / "bge-m3").touch()
    for name in ("qwen3:8b", "bge-m3", "hf.co/org/name-GGUF:Q4_K_M"):
        config = read(tmp_path, f"models: {{m: {{engine: ollama, environment: bin/ollama, model: '{name}'}}}}")
        spec = config.models[0]
        assert isinstance(spec, EngineSpec)
        assert spec.source.value == name


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n")
    config = read(tmp_path, "state_dir: s\nengines_dir: /e\nmodels: {a: {url: 'https://h:1/x/', api_key_file: key}}")
    spec = config.models[0]
    assert isinstance(spec, RemoteSpec)
    assert (config.state_dir, config.engines_dir) == (tmp_path / "s", Path("/e"))
    assert (spec.key, spec.tls, spec.host, spec.port, spec.prefix) == ("sk-1", True, "h", 1, "/x")


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("1h30m", 5400), ("1.5h", 5400), (0, 0)])
def test_durations(text: Any, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(show_duration(seconds)) == seconds


@pytest.mark.parametrize(("text", "size"), [("512KiB", 2**19), ("18 GiB", 18 * 2**30), ("5MB", 5000000), ("1B", 1)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert parse_size(show_size(size)) == size


def test_the_file_is_named_by_option_environment_or_habit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file("a", {"ROUTER_CONFIG": "b"}) == tmp_path / "a"
    assert find_file(None, {"ROUTER_CONFIG": "b"}) == tmp_path / "b"
    assert find_file(None, {}) == tmp_path / "router.yaml"


def test_the_state_folder_is_found_in_a_file_with_other_faults(tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    file.write_text("state_dir: s\nmodels: {a: {engine: nope, x: '${NONE}'}}\nunknown: 1")
    assert state_dir(str(file), {}) == tmp_path / "s"
    file.write_text("state_dir: [s]")
    with pytest.raises(ConfigError, match="state_dir: expected text, got a list"):
        state_dir(str(file), {})
    file.write_text("state_dir: [s")
    with pytest.raises(ConfigError, match="not YAML"):
        state_dir(str(file), {})

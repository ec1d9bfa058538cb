"""How much GPU memory a replica is thought to take."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_gguf_header import by_the_library

from launchers import LAUNCHERS
from launchers.base import Program, Source
from router.fleet.need import MARGIN, OVERHEAD, VLLM_SHARE, Need, need
from router.fleet.remembered import MOST, Remembered

GIB = 2**30


class Spec(msgspec.Struct, frozen=True):
    engine: str
    source: Source
    options: Any
    args: tuple[str, ...]
    program: Program
    kind: str = "chat"
    memory: int | None = None


def spec(engine: str, source: Source, *args: str, form: str = "server", **options: Any) -> Spec:
    typed = msgspec.convert(options, LAUNCHERS[engine].Options) if engine in LAUNCHERS else None
    return Spec(engine, source, typed, args, Program((engine,), form))


def asked(of: Spec, gpus: int = 1, measured: int | None = None) -> Need | None:
    return need(of, gpus, measured=measured, environment={"HF_HUB_CACHE": "/nowhere"})


def bytes_of(of: Spec, gpus: int = 1) -> int:
    found = asked(of, gpus)
    assert found is not None
    return found.on(0)


HUB = Source("hub", "org/model")


def folder(path: Path, **sizes: int) -> Source:
    """Sparse files: they are as long as they say and take no room."""
    path.mkdir(parents=True, exist_ok=True)
    for name, size in sizes.items():
        file = path / name.replace("__", "-").replace("_dot_", ".")
        file.touch()
        os.truncate(file, size)
    return Source("folder", str(path))


class TestVllm:
    @pytest.mark.parametrize(
        ("args", "options", "share"),
        [
            ((), {}, VLLM_SHARE),
            ((), {"gpu_memory_utilization": 0.5}, 0.5),
            (("--gpu-memory-utilization", "0.25"), {"gpu_memory_utilization": 0.5}, 0.25),
            (("--gpu_memory_utilization=0.25",), {}, 0.25),
            (("--gpu-memory-utilization=0.3", "--gpu-memory-utilization", "0.25"), {}, 0.25),
        ],
    )
    def test_it_claims_a_share_whatever_the_model(
        self, args: tuple[str, ...], options: dict[str, Any], share: float
    ) -> None:
        found = asked(spec("vllm", HUB, *args, **options))
        assert found == Need(share=share)
        assert found.on(100 * GIB + 1) == int(share * 100 * GIB) + 1  # rounded up, as vLLM does

    def test_a_cache_of_a_given_size_may_go_beyond_the_share_but_not_below(self, tmp_path: Path) -> None:
        source = folder(tmp_path, model_dot_safetensors=10 * GIB)
        found = asked(spec("vllm", source, gpu_memory_utilization=0.1, kv_cache_memory_bytes=4 * GIB), gpus=2)
        assert found is not None
        assert found.on(10 * GIB) == int(5 * MARGIN * GIB) + 4 * GIB + OVERHEAD
        assert found.on(1000 * GIB) == 100 * GIB

    def test_what_was_measured_does_not_lower_the_share_that_it_asks_for_at_its_start(self) -> None:
        found = asked(spec("vllm", HUB, gpu_memory_utilization=0.5), measured=10 * GIB)
        assert found == Need(fixed=10 * GIB, share=0.5, known="measured")
        assert (found.on(10 * GIB), found.on(40 * GIB)) == (10 * GIB, 20 * GIB)

    def test_a_flag_that_is_no_number_is_left_to_vllm(self) -> None:
        assert asked(spec("vllm", HUB, "--gpu-memory-utilization", "much")) is None


class TestLlamaCpp:
    """The file: 4 layers, 2 KV heads, 32 numbers each for key and value, 32768 tokens of context."""

    TOKEN = 4 * 2 * (32 + 32) * 2
    """Bytes of the cache a token."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return by_the_library(tmp_path / "m.gguf")

    @pytest.mark.parametrize(
        ("args", "options", "tokens", "each"),
        [
            ((), {"context": 4096, "gpu_layers": "all"}, 4096, TOKEN),
            ((), {"context": 4096, "gpu_layers": "all", "slots": 4}, 4096, TOKEN),  # the slots share it
            (("-c", "1024"), {"context": 4096, "gpu_layers": "all"}, 1024, TOKEN),
            (("--ctx-size=1024",), {"gpu_layers": "all"}, 1024, TOKEN),
            ((), {"context": 0}, 32768, TOKEN),
            ((), {}, 32768, TOKEN),
            ((), {"context": 4096, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}, 4096, TOKEN * 17 / 32),
            ((), {"context": 4096, "cache_type_k": "f32"}, 4096, TOKEN * 1.5),
            (("-ctk", "f32"), {"context": 4096}, 4096, TOKEN * 1.5),
        ],
    )
    def test_it_takes_the_file_and_the_cache(
        self, file: Path, args: tuple[str, ...], options: dict[str, Any], tokens: int, each: float
    ) -> None:
        of = spec("llamacpp", Source("file", str(file)), *args, **options)
        assert bytes_of(of) == file.stat().st_size + tokens * each + OVERHEAD

    def test_llama_cpp_python_has_a_context_of_its_own(self, file: Path) -> None:
        of = spec("llamacpp", Source("file", str(file)), form="python")
        assert bytes_of(of) == file.stat().st_size + 2048 * self.TOKEN + OVERHEAD

    def test_a_folder_is_its_one_model_and_all_shards_count(self, tmp_path: Path) -> None:
        first = by_the_library(tmp_path / "m-00001-of-00003.gguf")
        for number in (2, 3):
            (tmp_path / f"m-0000{number}-of-00003.gguf").write_bytes(bytes(1000))
        (tmp_path / "m2-00002-of-00003.gguf").write_bytes(bytes(77))
        (tmp_path / "m-00003-of-00003.gguf.part").write_bytes(bytes(77))
        whole = first.stat().st_size + 2000 + 256 * self.TOKEN + OVERHEAD
        assert bytes_of(spec("llamacpp", Source("file", str(first)), "-c", "256")) == whole
        assert bytes_of(spec("llamacpp", Source("folder", str(tmp_path)), "-c", "256")) == whole

    def test_adapters_and_projectors_count(self, file: Path, tmp_path: Path) -> None:
        extra = tmp_path / "extra.gguf"
        extra.write_bytes(bytes(5000))
        source = Source("file", str(file))
        alone = bytes_of(spec("llamacpp", source))
        assert bytes_of(spec("llamacpp", source, lora=[str(extra)], mmproj=str(extra))) == alone + 10_000

    @pytest.mark.parametrize(
        ("options", "gpus", "part"),
        [
            ({}, 2, 0.5),
            ({"tensor_split": [3, 1]}, 2, 0.75),
            ({"split_mode": "none"}, 2, 1.0),
            ({"gpu_layers": 2}, 1, 2 / 5),
            ({"gpu_layers": 99}, 1, 1.0),
            ({"gpu_layers": 0}, 1, 0.0),
        ],
    )
    def test_layers_and_gpus_share_it(self, file: Path, options: dict[str, Any], gpus: int, part: float) -> None:
        source = Source("file", str(file))
        whole = bytes_of(spec("llamacpp", source)) - OVERHEAD
        assert bytes_of(spec("llamacpp", source, **options), gpus) == pytest.approx(whole * part + OVERHEAD, abs=1)

    @pytest.mark.parametrize("flags", [("-ngl", "-1"), ("--gpu-layers=all",), ("--n_gpu_layers", "99")])
    def test_flags_that_mean_all_layers_do(self, file: Path, flags: tuple[str, ...]) -> None:
        source = Source("file", str(file))
        assert bytes_of(spec("llamacpp", source, *flags, gpu_layers=1)) == bytes_of(spec("llamacpp", source))

    @pytest.mark.parametrize(
        ("form", "options", "hard"),
        [
            ("server", {}, False),
            ("server", {"context": 512}, False),
            ("server", {"context": 512, "gpu_layers": "auto"}, False),
            ("xllamacpp", {"gpu_layers": "all"}, False),
            ("server", {"context": 512, "gpu_layers": "all"}, True),
            ("server", {"context": 512, "gpu_layers": 3}, True),
            ("python", {}, True),
        ],
    )
    def test_what_is_left_to_the_server_it_makes_fit(
        self, file: Path, form: str, options: dict[str, Any], hard: bool
    ) -> None:
        found = asked(spec("llamacpp", Source("file", str(file)), form=form, **options))
        assert found is not None
        assert found.hard is hard

    def test_without_a_readable_header_the_size_of_the_file_has_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(996))
        assert bytes_of(spec("llamacpp", Source("folder", str(tmp_path)))) == 1000 * MARGIN + OVERHEAD

    @pytest.mark.parametrize("source", [HUB, Source("file", "/nowhere/m.gguf"), Source("folder", "/nowhere")])
    def test_a_file_that_is_not_here_is_unknown(self, source: Source) -> None:
        assert asked(spec("llamacpp", source)) is None


class TestWeights:
    """infinity, and whatever else has no rule of its own."""

    @pytest.mark.parametrize("engine", ["infinity", "one of tomorrow"])
    def test_it_takes_a_fifth_more_than_the_weights(self, tmp_path: Path, engine: str) -> None:
        source = folder(tmp_path, model_dot_safetensors=10 * GIB, config_dot_json=999)
        assert bytes_of(spec(engine, source)) == 12 * GIB + OVERHEAD

    def test_each_gpu_has_all_of_them(self, tmp_path: Path) -> None:
        of = spec("infinity", folder(tmp_path, model_dot_safetensors=10 * GIB))
        assert bytes_of(of, 4) == bytes_of(of, 1)

    def test_what_the_index_names_counts_and_no_second_copy(self, tmp_path: Path) -> None:
        names = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
        sizes = {"model__1_dot_safetensors": 3 * GIB, "model__2_dot_safetensors": 2 * GIB}
        source = folder(tmp_path, **sizes, consolidated_dot_safetensors=5 * GIB, model__9_dot_safetensors=GIB)
        assert bytes_of(spec("infinity", source)) == 6 * GIB + OVERHEAD

    @pytest.mark.parametrize(
        "index",
        ids=lambda index: repr(index[:30]),
        argvalues=[
            "",
            "[]",
            '{"weight_map": 3}',
            '{"weight_map": {"a": "gone"}}',
            '{"weight_map": {"a": "../x"}}',
            "{" * 9999,
            '{"x":' + "[" * 99999,
        ],
    )
    def test_an_index_that_makes_no_sense_is_passed_over(self, tmp_path: Path, index: str) -> None:
        (tmp_path / "x").write_bytes(bytes(77))
        source = folder(tmp_path / "m", model_dot_safetensors=10 * GIB, consolidated_dot_safetensors=GIB)
        (tmp_path / "m" / "model.safetensors.index.json").write_text(index)
        assert bytes_of(spec("infinity", source)) == 12 * GIB + OVERHEAD

    def test_older_weights_count_where_there_are_no_others(self, tmp_path: Path) -> None:
        old = folder(tmp_path, pytorch_model_dot_bin=5 * GIB, optimizer_dot_bin=GIB)
        assert bytes_of(spec("infinity", old)) == 6 * GIB + OVERHEAD
        both = folder(tmp_path, model_dot_safetensors=10 * GIB)
        assert bytes_of(spec("infinity", both)) == 12 * GIB + OVERHEAD

    def test_a_folder_without_weights_is_unknown(self, tmp_path: Path) -> None:
        assert asked(spec("infinity", folder(tmp_path, config_dot_json=10))) is None

    @pytest.mark.parametrize("where", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
    def test_what_huggingfaces_cache_has_counts(self, tmp_path: Path, where: str) -> None:
        below = {"HF_HUB_CACHE": "", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub"}[where]
        repository = tmp_path / below / "models--org--model"
        folder(repository / "blobs", abc=10 * GIB)
        folder(repository / "snapshots" / "old", model_dot_safetensors=GIB)
        (repository / "snapshots" / "new").mkdir()
        (repository / "snapshots" / "new" / "model.safetensors").symlink_to("../../blobs/abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("new\n")
        found = need(spec("infinity", HUB), 1, measured=None, environment={where: str(tmp_path)})
        assert found is not None
        assert found.on(0) == 12 * GIB + OVERHEAD

    def test_a_model_that_was_not_downloaded_is_unknown(self, tmp_path: Path) -> None:
        found = need(spec("infinity", HUB), 1, measured=None, environment={"HF_HOME": str(tmp_path)})
        assert found is None


@pytest.mark.parametrize(
    ("engine", "flag", "share"),
    [
        ("sglang", "--mem-fraction-static", 0.88),
        ("lmdeploy", "--cache-max-entry-count", 0.8),
        ("trtllm", "--free_gpu_memory_fraction", 0.9),
    ],
)
def test_a_share_of_what_is_free_makes_do_with_any_gpu_that_holds_its_part_of_the_weights(
    tmp_path: Path, engine: str, flag: str, share: float
) -> None:
    option = flag.lstrip("-").replace("-", "_")
    assert asked(spec(engine, HUB)) == Need(fixed=OVERHEAD, share=share, hard=False)
    assert asked(spec(engine, HUB, **{option: 0.5})) == Need(fixed=OVERHEAD, share=0.5, hard=False)
    assert asked(spec(engine, HUB, flag, "0.25", **{option: 0.5})) == Need(fixed=OVERHEAD, share=0.25, hard=False)
    weights = folder(tmp_path, model_dot_safetensors=10 * GIB)
    assert asked(spec(engine, weights), gpus=4) == Need(fixed=5 * GIB // 2 + OVERHEAD, share=share, hard=False)


@pytest.mark.parametrize(
    ("engine", "kind", "options"),
    [
        ("transformers", "chat", {}), ("vllm", "chat", {"omni": True}), ("vllm", "image", {}), ("vllm", "speech", {}),
        ("sglang", "video", {}), ("trtllm", "image", {}),
    ],
)  # fmt: skip
def test_an_engine_without_a_cache_that_fills_its_gpus_spreads_the_weights_over_them(
    tmp_path: Path, engine: str, kind: str, options: dict[str, Any]
) -> None:
    weights = folder(tmp_path, model_dot_safetensors=10 * GIB)
    of = msgspec.structs.replace(spec(engine, weights, **options), kind=kind)
    assert asked(of) == Need(fixed=int(10 * MARGIN * GIB) + OVERHEAD)
    assert asked(of, gpus=4) == Need(fixed=int(2.5 * MARGIN * GIB) + OVERHEAD, hard=False)
    assert asked(msgspec.structs.replace(of, source=HUB)) is None


@pytest.mark.parametrize("engine", ["vllm", "infinity", "one of tomorrow"])
def test_what_is_declared_comes_before_what_was_measured_and_that_before_an_estimate(
    tmp_path: Path, engine: str
) -> None:
    of = spec(engine, folder(tmp_path, model_dot_safetensors=10 * GIB))
    declared = asked(msgspec.structs.replace(of, memory=GIB), measured=2 * GIB)
    measured, estimated = asked(of, measured=2 * GIB), asked(of)
    assert declared == Need(fixed=GIB, known="declared")
    assert measured is not None
    assert (measured.fixed, measured.known) == (2 * GIB, "measured")
    assert estimated is not None
    assert estimated.known == "estimated"


class TestRemembered:
    def test_it_is_known_after_a_restart(self, tmp_path: Path) -> None:
        Remembered(tmp_path / "memory.json").put("qwen", 5 * GIB)
        again = Remembered(tmp_path / "memory.json")
        assert (again.get("qwen"), again.get("other")) == (5 * GIB, None)

    def test_it_may_change(self, tmp_path: Path) -> None:
        first = Remembered(tmp_path / "memory.json")
        first.put("qwen", 5)
        first.put("qwen", 6)
        assert Remembered(tmp_path / "memory.json").get("qwen") == 6

    def test_nothing_at_all_is_not_remembered(self, tmp_path: Path) -> None:
        first = Remembered(tmp_path / "memory.json")
        first.put("qwen", 0)
        assert first.get("qwen") is None
        assert not (tmp_path / "memory.json").exists()

    @pytest.mark.parametrize(
        "rubbish",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff\xfe",
            b'{"qwen": 5',
            b"[" * 100_000,
            b'{"qwen": ' + b"[" * 100_000,
            b" " * 2**21,
        ],
    )
    def test_a_file_of_rubbish_is_an_empty_one(self, tmp_path: Path, rubbish: bytes) -> None:
        (tmp_path / "memory.json").write_bytes(rubbish)
        found = Remembered(tmp_path / "memory.json")
        assert found.get("qwen") is None
        found.put("qwen", 5)
        assert Remembered(tmp_path / "memory.json").get("qwen") == 5

    def test_what_makes_sense_in_it_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "memory.json").write_text('{"a": 5, "b": -1, "c": "6", "d": true, "e": 1.5, "f": null, "g": [1]}')
        found = Remembered(tmp_path / "memory.json")
        assert [name for name in "abcdefg" if found.get(name) is not None] == ["a"]

    def test_the_oldest_make_room(self, tmp_path: Path) -> None:
        (tmp_path / "memory.json").write_text(json.dumps({f"old {number}": 5 for number in range(MOST)}))
        found = Remembered(tmp_path / "memory.json")
        found.put("old 0", 6)  # the newest from now on
        found.put("new", 5)
        again = Remembered(tmp_path / "memory.json")
        assert (again.get("old 0"), again.get("old 1"), again.get("old 2"), again.get("new")) == (6, None, 5, 5)

    def test_where_nothing_can_be_written_it_is_known_until_the_end(self, tmp_path: Path) -> None:
        found = Remembered(tmp_path / "gone" / "memory.json")
        found.put("qwen", 5)
        assert found.get("qwen") == 5

    def test_a_write_that_breaks_off_leaves_the_file_as_it_was(self, tmp_path: Path) -> None:
        found = Remembered(tmp_path / "memory.json")
        found.put("qwen", 5)
        (tmp_path / "memory.json.new").mkdir()  # so that it cannot be written
        found.put("qwen", 6)
        assert Remembered(tmp_path / "memory.json").get("qwen") == 5

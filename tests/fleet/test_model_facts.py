"""What a model's files and its engine's options say of it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import gguf
import msgspec
import pytest

from launchers import LAUNCHERS
from router.config import Config, EngineSpec, load
from router.fleet.facts import Facts
from router.fleet.facts_of import facts_of
from router.fleet.library import Library

TOOLS = "{% if tools %}{{ tools }}{% endif %}{{ messages }}"


def config(folder: Path, **model: Any) -> Config:
    file = folder / "router.yaml"
    engines = folder / "engines"
    for program in ("vllm/bin/vllm", "infinity/bin/infinity_emb", "llamacpp/bin/llama-server"):
        (engines / program).parent.mkdir(parents=True, exist_ok=True)
        (engines / program).touch(mode=0o755)
    file.write_text(json.dumps({"engines_dir": str(engines), "models": {"m": {"engine": "vllm", **model}}}))
    return load(file, list, {})


def facts(folder: Path, **model: Any) -> Facts:
    (spec,) = config(folder, **model).models
    assert isinstance(spec, EngineSpec)
    return facts_of(spec)


def hub(folder: Path, **files: Any) -> str:
    """A Hugging Face folder with these files; `a__b` is `a/b`, and `.json` is understood."""
    model = folder / "model"
    for name, content in files.items():
        file = model / f"{name.replace('__', '/')}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return str(model)


def written(file: Path, *, template: str | None = None, words: int = 100, architecture: str = "qwen3") -> str:
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(2)
    writer.add_context_length(40960)
    writer.add_embedding_length(1024)
    writer.add_head_count(16)
    writer.add_token_list([f"word-{number}" for number in range(words)])
    if template is not None:
        writer.add_chat_template(template)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return str(file)


def test_a_folder_of_hugging_face(tmp_path: Path) -> None:
    model = hub(
        tmp_path,
        config={"model_type": "qwen3", "max_position_embeddings": 40960, "hidden_size": 4096,
                "quantization_config": {"quant_method": "awq"}},
        tokenizer_config={"chat_template": TOOLS + "<think>", "model_max_length": 131072},
    )  # fmt: skip
    found = facts(tmp_path, model=model, options={"tool_call_parser": "hermes"}, replicas=2)
    assert found == Facts(
        format="awq", family="qwen3", quantization="awq", context=40960, tools=True, reasoning=True, replicas=2
    )


def test_a_model_that_sees(tmp_path: Path) -> None:
    model = hub(
        tmp_path,
        config={"model_type": "gemma3", "vision_config": {}, "text_config": {"max_position_embeddings": 8192}},
        tokenizer_config={},
        chat_template={"chat_template": "{{ messages }}"},
    )
    found = facts(tmp_path, model=model)
    assert (found.vision, found.audio, found.chats, found.tools, found.context) == (True, False, True, False, 8192)


@pytest.mark.parametrize(
    ("options", "args", "context"),
    [
        ({"max_model_len": 4096}, [], 4096),
        ({}, ["--max-model-len", "\u00b2"], 40960),
        ({"max_model_len": 4096}, ["--max-model-len=2048"], 2048),
        ({}, [], 40960),
    ],
)
def test_the_engine_is_told_of_another_context(tmp_path: Path, options: Any, args: list[str], context: int) -> None:
    model = hub(tmp_path, config={"model_type": "qwen3", "max_position_embeddings": 40960})
    assert facts(tmp_path, model=model, options=options, args=args).context == context


def test_vllm_calls_no_tools_without_a_parser(tmp_path: Path) -> None:
    model = hub(tmp_path, config={"model_type": "qwen3"}, tokenizer_config={"chat_template": TOOLS})
    assert not facts(tmp_path, model=model).tools
    assert facts(tmp_path, model=model, args=["--tool-call-parser", "hermes"]).tools


@pytest.mark.parametrize("engine", ["sglang", "lmdeploy", "trtllm"])
def test_others_call_none_either(tmp_path: Path, engine: str) -> None:
    model = hub(tmp_path, config={"model_type": "qwen3"}, tokenizer_config={"chat_template": TOOLS})
    (spec,) = config(tmp_path, model=model).models
    other, told = (
        msgspec.structs.replace(spec, engine=engine, options=msgspec.convert(options, LAUNCHERS[engine].Options))
        for options in ({}, {"tool_call_parser": "qwen3"})
    )
    assert not facts_of(other).tools
    assert facts_of(told).tools


def test_a_model_that_has_no_chat_template(tmp_path: Path) -> None:
    model = hub(tmp_path, config={"model_type": "llama"}, tokenizer_config={"model_max_length": 4096})
    assert not facts(tmp_path, model=model).chats
    assert facts(tmp_path, model=model, options={"chat_template": "t.jinja"}).chats
    (tmp_path / "model/tekken.json").write_text("{}")  # Mistral's own has it in code
    assert facts(tmp_path, model=model).chats


def test_an_embedding_model_of_sentence_transformers(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "config": {"model_type": "xlm-roberta", "max_position_embeddings": 8194, "hidden_size": 1024},
        "sentence_bert_config": {"max_seq_length": 8192},
        "tokenizer_config": {"model_max_length": 10**30},
        "1_Pooling__config": {"word_embedding_dimension": 1024},
    }
    found = facts(tmp_path, model=hub(tmp_path, **files), engine="infinity", kind="embedding")
    assert (found.dimensions, found.context, found.family) == (1024, 8192, "xlm-roberta")
    found = facts(
        tmp_path, model=hub(tmp_path, **files, **{"2_Dense__config": {"out_features": 256}}), engine="infinity"
    )
    assert found.dimensions == 256
    assert facts(tmp_path, model=hub(tmp_path, **files), engine="infinity", kind="rerank").dimensions is None


def test_a_gguf_file(tmp_path: Path) -> None:
    """The template stands behind a vocabulary that is larger than what is read at once."""
    model = written(tmp_path / "Qwen3-8B-Q4_K_M.gguf", template=TOOLS, words=200_000)
    found = facts(tmp_path, engine="llamacpp", model=model)
    assert found == Facts(format="gguf", family="qwen3", quantization="Q4_K_M", context=40960, tools=True)
    assert not facts(tmp_path, engine="llamacpp", model=model, options={"jinja": False}).tools
    assert facts(tmp_path, engine="llamacpp", model=model, options={"context": 8192, "slots": 4}).context == 2048
    assert facts(tmp_path, engine="llamacpp", model=model, options={"mmproj": model}).vision


def test_llamacpp_chats_without_a_template(tmp_path: Path) -> None:
    assert facts(tmp_path, engine="llamacpp", model=written(tmp_path / "m.gguf")).chats


def test_what_llamacpp_embeds_has_to_fit_in_a_batch(tmp_path: Path) -> None:
    model = written(tmp_path / "m.gguf", architecture="bert")
    found = facts(tmp_path, engine="llamacpp", kind="embedding", model=model)
    assert (found.dimensions, found.context) == (1024, 512)
    assert facts(tmp_path, engine="llamacpp", kind="embedding", model=model, options={"ubatch": 2048}).context == 2048


@pytest.mark.parametrize(
    "content",
    [b"", b"GGUF", b"{", b"[1]", b"\xff\xfe", b'{"max_position_embeddings": -5}', b"[" * 100_000, b'{"a":' * 100_000],
    ids=lambda content: repr(content[:30]),
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "m.gguf"])
def test_files_that_make_no_sense_are_only_not_known(tmp_path: Path, name: str, content: bytes) -> None:
    model = hub(tmp_path, config={"model_type": "qwen3"})
    (tmp_path / "model" / name).write_bytes(content)
    engine = "llamacpp" if name == "m.gguf" else "vllm"
    assert facts(tmp_path, engine=engine, model=model, options={}).context is None


@pytest.mark.anyio
async def test_a_model_is_read_again_until_its_files_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    library = Library(config(tmp_path, model="org/name"))
    assert (await library.facts("m")).context is None
    snapshot = tmp_path / "hub/models--org--name/snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "qwen3", "max_position_embeddings": 32768}')
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    assert (await library.facts("m")).context == 32768
    (snapshot / "config.json").unlink()
    assert (await library.facts("m")).context == 32768
    assert await library.facts("none") == Facts()


@pytest.mark.anyio
async def test_a_changed_file_has_the_model_read_again(tmp_path: Path) -> None:
    model = hub(tmp_path, config={"model_type": "qwen3", "max_position_embeddings": 40960})
    library = Library(config(tmp_path, model=model))
    assert (await library.facts("m")).context == 40960
    library.apply(config(tmp_path, model=model, options={"max_model_len": 1024}))
    found = await asyncio.gather(*(library.facts("m") for _ in range(3)))
    assert [each.context for each in found] == [1024, 1024, 1024]


@pytest.mark.parametrize("engine", sorted(LAUNCHERS.keys() - {"command"}))
def test_no_engines_options_stand_in_the_way(engine: str, tmp_path: Path) -> None:
    """Whatever an option is called, a model whose files are not here has facts."""
    (spec,) = config(tmp_path, model="org/name").models
    other = msgspec.structs.replace(spec, engine=engine, options=LAUNCHERS[engine].Options())
    assert facts_of(other).format == "pytorch"

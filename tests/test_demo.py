"""The tiny models: that they are made, and the same each time. What they say is tested through engines."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from demo import bert, llama, vocabulary
from demo.__main__ import MAKERS, main, make


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    assert make(folder) == [folder / name for name in MAKERS]
    return folder


def tensors(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}


def recite(embedding: np.ndarray, head: np.ndarray, token: int, steps: int) -> list[int]:
    """What greedy decoding says after `token` if attention and MLP add nothing."""
    said = []
    for _ in range(steps):
        token = int(np.argmax(head @ embedding[token]))
        said.append(token)
    return said


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.parametrize("name", MAKERS)
def test_a_model_is_the_same_bytes_each_time(made: Path, tmp_path: Path, name: str) -> None:
    again = tmp_path / Path(name).name
    MAKERS[name](again)
    assert contents(again) == contents(made / name) != {}


def test_what_exists_is_left_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (made / "chat.gguf").stat().st_mtime_ns
    assert main([str(made)]) == 0
    assert capsys.readouterr().out == f"all models are in {made}\n"
    assert (made / "chat.gguf").stat().st_mtime_ns == before


def test_one_form_is_made_and_force_makes_it_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--only", "hf"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"hf"}
    first = capsys.readouterr().out
    assert f"made {tmp_path / 'hf/chat'}\n" in first
    (tmp_path / "hf/chat/config.json").write_text("old")
    assert main([str(tmp_path), "--only", "hf", "--force"]) == 0
    assert capsys.readouterr().out == first
    assert json.loads((tmp_path / "hf/chat/config.json").read_text())["model_type"] == "llama"


def test_a_model_that_could_not_be_finished_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_midway(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setitem(MAKERS, "chat.gguf", fail_midway)
    with pytest.raises(OSError, match="disk full"):
        make(tmp_path, "gguf")
    assert list(tmp_path.iterdir()) == []


def test_the_vocabulary_has_one_token_for_each_word() -> None:
    vocab = vocabulary.build()
    assert (len(vocab.tokens), len(vocab.merges), len(vocab.sentence)) == (383, 123, 28)
    assert len(set(vocab.tokens)) == len(vocab.tokens)
    assert vocab.tokens[-4:] == vocabulary.SPECIAL
    assert [vocab.tokens[token] for token in vocab.sentence] == ["\u0120" + word for word in vocabulary.WORDS]


def test_the_tokenizer_of_the_folder_agrees_with_the_vocabulary(made: Path) -> None:
    vocab = vocabulary.build()
    tokenizer = Tokenizer.from_file(str(made / "hf/chat/tokenizer.json"))
    text = " " + vocabulary.SENTENCE
    assert tuple(tokenizer.encode(text).ids) == vocab.sentence
    assert tokenizer.decode(list(vocab.sentence)) == text
    any_text = "Grüße, 世界 🦊\n\t<|im_end|>"
    assert tokenizer.decode(tokenizer.encode(any_text).ids, skip_special_tokens=False) == any_text


@pytest.mark.parametrize("name", ["chat.gguf", "chat-slow.gguf"])
def test_a_chat_model_goes_round_the_sentence_from_any_token(made: Path, name: str) -> None:
    vocab, model = vocabulary.build(), tensors(made / name)
    for token in range(len(vocab.tokens)):
        start = vocab.sentence.index(token) + 1 if token in vocab.sentence else 0
        expected = [vocab.sentence[(start + step) % 28] for step in range(60)]
        assert recite(model["token_embd.weight"], model["output.weight"], token, 60) == expected


def test_the_model_that_ends_says_so_after_one_pass(made: Path) -> None:
    vocab, model = vocabulary.build(), tensors(made / "chat-end.gguf")
    said = recite(model["token_embd.weight"], model["output.weight"], vocab.id(vocabulary.TURN_START), 29)
    assert said == [*vocab.sentence, vocab.id(vocabulary.TURN_END)]


def test_a_sentence_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one dimension for each of 29"):
        llama.weights(llama.Shape(dim=28, ends=True), vocabulary.build())


@pytest.mark.parametrize(
    ("name", "context", "limit"), [("chat.gguf", 16384, 2**20), ("chat-slow.gguf", 4096, 60 * 2**20)]
)
def test_a_context_is_long_and_a_file_small(made: Path, name: str, context: int, limit: int) -> None:
    field = gguf.GGUFReader(made / name).get_field("llama.context_length")
    assert field is not None
    assert field.contents() == context
    assert (made / name).stat().st_size < limit


@pytest.mark.parametrize(("folder", "file"), [("hf/chat", "chat.gguf"), ("hf/chat-end", "chat-end.gguf")])
def test_both_forms_of_a_llama_hold_the_same_weights(made: Path, folder: str, file: str) -> None:
    state, model = load_file(made / folder / "model.safetensors"), tensors(made / file)
    config = json.loads((made / folder / "config.json").read_text())
    assert len(state) == len(model) == 3 + 9 * config["num_hidden_layers"]
    assert config["vocab_size"] == len(state["lm_head.weight"]) == 383
    np.testing.assert_array_equal(state["lm_head.weight"], model["output.weight"])
    np.testing.assert_array_equal(state["model.layers.1.mlp.down_proj.weight"], model["blk.1.ffn_down.weight"])
    hf_rows, gguf_rows = state["model.layers.0.self_attn.k_proj.weight"], model["blk.0.attn_k.weight"]
    np.testing.assert_array_equal(hf_rows[[0, 16, 1, 17]], gguf_rows[:4])


@pytest.mark.parametrize("name", ["embedding", "rerank"])
def test_both_forms_of_a_bert_hold_the_same_weights(made: Path, name: str) -> None:
    state, model = load_file(made / f"hf/{name}/model.safetensors"), tensors(made / f"{name}.gguf")
    body = "bert." if name == "rerank" else ""
    words = state[body + "embeddings.word_embeddings.weight"]
    assert len(words) == len(bert.wordpieces())
    np.testing.assert_array_equal(words, model["token_embd.weight"])
    np.testing.assert_array_equal(state[body + "encoder.layer.1.output.dense.weight"], model["blk.1.ffn_down.weight"])
    assert ("classifier.weight" in state) == ("cls.output.weight" in model) == (name == "rerank")


def test_both_forms_of_a_bert_number_their_tokens_alike(made: Path) -> None:
    field = gguf.GGUFReader(made / "rerank.gguf").get_field("tokenizer.ggml.tokens")
    tokenizer = Tokenizer.from_file(str(made / "hf/rerank/tokenizer.json"))
    assert field is not None
    vocab = tokenizer.get_vocab()
    expected = {
        piece: index
        for index, token in enumerate(field.contents())
        for piece in [token if token in bert.SPECIAL else token[1:] if token[0] == bert.STARTED else "##" + token]
    }
    assert vocab == expected
    assert tokenizer.encode("The fox, 7x").tokens == ["[CLS]", "the", "fox", ",", "7", "##x", "[SEP]"]


def test_the_adapter_fits_the_folder(made: Path) -> None:
    state, adapter = (
        load_file(made / name) for name in ("hf/chat/model.safetensors", "hf/lora/adapter_model.safetensors")
    )
    for name, tensor in adapter.items():
        module, _, side = name.removeprefix("base_model.model.").partition(".lora_")
        rows, columns = state[f"{module}.weight"].shape
        assert tensor.shape == {"A.weight": (8, columns), "B.weight": (rows, 8)}[side]
    assert len(adapter) == 2 * 2 * 3


def test_the_adapter_is_the_same_one_for_gguf(made: Path) -> None:
    theirs, ours = load_file(made / "hf/lora/adapter_model.safetensors"), tensors(made / "lora.gguf")
    layer = "base_model.model.model.layers.1.self_attn"
    for name, module in (("attn_v", "v_proj"), ("attn_output", "o_proj")):
        assert (ours[f"blk.1.{name}.weight.lora_a"] == theirs[f"{layer}.{module}.lora_A.weight"]).all()
        assert (ours[f"blk.1.{name}.weight.lora_b"] == theirs[f"{layer}.{module}.lora_B.weight"]).all()
    assert len(ours) == len(theirs)
    kind = gguf.GGUFReader(made / "lora.gguf").get_field("general.type")
    assert kind is not None
    assert kind.contents() == "adapter"

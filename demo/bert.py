"""Tiny BERTs, as GGUF or as a Hugging Face folder, from one set of weights and one list of tokens.

One kind embeds (mean over the tokens), the other is a cross-encoder with one label, which is what rerankers are. The
weights are random: vectors and scores mean nothing, but are the same each time and nearly the same in each engine.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from demo import vocabulary

Array = npt.NDArray[np.float32]

DIM: Final = 64
HEADS: Final = 2
FF: Final = 128
LAYERS: Final = 2
CONTEXT: Final = 512
NORM_EPSILON: Final = 1e-12
SEED: Final = 1

SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHARACTERS: Final = tuple(chr(code) for code in range(33, 127))
CONTINUED: Final = "##"  # WordPiece's mark of a piece inside a word
STARTED: Final = "\u2581"  # llama.cpp marks a word's first piece instead


@dataclass(frozen=True)
class Linear:
    weight: Array  # (out, in)
    bias: Array


@dataclass(frozen=True)
class Layer:
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    up: Linear
    down: Linear


@dataclass(frozen=True)
class Weights:
    words: Array
    positions: Array
    types: Array
    layers: tuple[Layer, ...]
    pooler: Linear
    classifier: Linear


def wordpieces() -> tuple[str, ...]:
    starts = dict.fromkeys((*sorted(set(vocabulary.WORDS)), *CHARACTERS))
    return (*SPECIAL, *starts, *(CONTINUED + character for character in CHARACTERS))


def weights(vocab_size: int) -> Weights:
    random = np.random.default_rng(SEED)

    def noise(*size: int) -> Array:
        return random.normal(0, 0.2, size).astype(np.float32)

    def linear(rows: int, columns: int) -> Linear:
        return Linear(noise(rows, columns), np.zeros(rows, np.float32))

    def layer() -> Layer:
        query, key, value, output = (linear(DIM, DIM) for _ in range(4))
        return Layer(query, key, value, output, up=linear(FF, DIM), down=linear(DIM, FF))

    return Weights(
        words=noise(vocab_size, DIM),
        positions=noise(CONTEXT, DIM),
        types=np.repeat(noise(1, DIM), 2, axis=0),  # alike, since llama.cpp gives both texts of a pair the first type
        layers=tuple(layer() for _ in range(LAYERS)),
        pooler=linear(DIM, DIM),
        classifier=linear(1, DIM),
    )


def _norm() -> Linear:
    return Linear(np.ones(DIM, np.float32), np.zeros(DIM, np.float32))


def write_gguf(path: Path, *, rerank: bool = False) -> None:
    import gguf  # noqa: PLC0415 - only who asks for this form needs the library

    tokens = [_marked_at_start(piece) for piece in wordpieces()]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny-bert")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FF)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(NORM_EPSILON)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK if rerank else gguf.PoolingType.MEAN)
    writer.add_file_type(0)  # all float32
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_type_count(2)
    control, normal = 3, 1
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_pad_token_id(SPECIAL.index("[PAD]"))
    writer.add_unk_token_id(SPECIAL.index("[UNK]"))
    writer.add_bos_token_id(SPECIAL.index("[CLS]"))
    writer.add_eos_token_id(SPECIAL.index("[SEP]"))
    writer.add_sep_token_id(SPECIAL.index("[SEP]"))
    writer.add_mask_token_id(SPECIAL.index("[MASK]"))
    writer.add_add_eos_token(True)  # [SEP] after each text of a pair, the last one included, …
    writer.add_add_sep_token(False)  # … and not twice between them
    writer.add_key_value("tokenizer.ggml.cls_token_id", SPECIAL.index("[CLS]"), gguf.GGUFValueType.UINT32)
    if rerank:
        writer.add_classifier_output_labels(["score"])
    for name, tensor in _gguf_tensors(weights(len(tokens)), rerank=rerank).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _marked_at_start(piece: str) -> str:
    if piece in SPECIAL:
        return piece
    return piece.removeprefix(CONTINUED) if len(piece) > 2 and piece.startswith(CONTINUED) else STARTED + piece


def _gguf_tensors(model: Weights, *, rerank: bool) -> dict[str, Array]:
    tables = {"token_embd": model.words, "token_types": model.types, "position_embd": model.positions}
    linears = {"token_embd_norm": _norm()}
    for number, layer in enumerate(model.layers):
        parts = {
            "attn_q": layer.query,
            "attn_k": layer.key,
            "attn_v": layer.value,
            "attn_output": layer.output,
            "attn_output_norm": _norm(),
            "ffn_up": layer.up,
            "ffn_down": layer.down,
            "layer_output_norm": _norm(),
        }
        linears |= {f"blk.{number}.{name}": part for name, part in parts.items()}
    if rerank:
        linears |= {"cls": model.pooler, "cls.output": model.classifier}
    return {f"{name}.weight": table for name, table in tables.items()} | _named(linears)


def _named(linears: dict[str, Linear]) -> dict[str, Array]:
    named: dict[str, Array] = {}
    for name, linear in linears.items():
        named |= {f"{name}.weight": linear.weight, f"{name}.bias": linear.bias}
    return named


def write_folder(path: Path, *, rerank: bool = False) -> None:
    from safetensors.numpy import save_file  # noqa: PLC0415 - only who asks for this form needs the library

    pieces = wordpieces()
    state = _folder_tensors(weights(len(pieces)), rerank=rerank)
    path.mkdir(parents=True, exist_ok=True)
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    _write_json(path / "config.json", _config(len(pieces), rerank=rerank))
    _write_tokenizer(path, pieces)
    if not rerank:
        _write_sentence_transformers(path)


def _folder_tensors(model: Weights, *, rerank: bool) -> dict[str, Array]:
    tables = {"word": model.words, "position": model.positions, "token_type": model.types}
    linears = {"embeddings.LayerNorm": _norm(), "pooler.dense": model.pooler}
    for number, layer in enumerate(model.layers):
        parts = {
            "attention.self.query": layer.query,
            "attention.self.key": layer.key,
            "attention.self.value": layer.value,
            "attention.output.dense": layer.output,
            "attention.output.LayerNorm": _norm(),
            "intermediate.dense": layer.up,
            "output.dense": layer.down,
            "output.LayerNorm": _norm(),
        }
        linears |= {f"encoder.layer.{number}.{name}": part for name, part in parts.items()}
    body = {f"embeddings.{name}_embeddings.weight": table for name, table in tables.items()} | _named(linears)
    if not rerank:
        return body
    return {f"bert.{name}": tensor for name, tensor in body.items()} | _named({"classifier": model.classifier})


def _config(vocab_size: int, *, rerank: bool) -> dict[str, object]:
    config: dict[str, object] = {
        "architectures": ["BertForSequenceClassification" if rerank else "BertModel"],
        "model_type": "bert",
        "hidden_size": DIM,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FF,
        "max_position_embeddings": CONTEXT,
        "type_vocab_size": 2,
        "vocab_size": vocab_size,
        "layer_norm_eps": NORM_EPSILON,
        "pad_token_id": SPECIAL.index("[PAD]"),
        "hidden_act": "gelu",
        "torch_dtype": "float32",
    }
    if rerank:
        config |= {"num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    return config


def _write_tokenizer(path: Path, pieces: tuple[str, ...]) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: PLC0415 - as above

    ids = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = (("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "model_max_length": CONTEXT,
    }
    _write_json(path / "tokenizer_config.json", settings)


def _write_sentence_transformers(path: Path) -> None:
    module = "sentence_transformers.models."
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": module + "Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": module + "Pooling"},
    ]
    pooling = {
        "word_embedding_dimension": DIM,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    _write_json(path / "modules.json", modules)
    _write_json(path / "1_Pooling" / "config.json", pooling)
    _write_json(path / "sentence_bert_config.json", {"max_seq_length": CONTEXT, "do_lower_case": False})


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

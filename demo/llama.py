"""Tiny Llamas that recite `vocabulary.WORDS`, as GGUF or as a Hugging Face folder, from one set of weights.

Each token's embedding is (nearly) the basis vector of the word that follows it, and the head reads that vector back,
so greedy decoding goes round the sentence whatever the prompt was. Attention and MLP are real but only add small noise.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from demo import vocabulary

Array = npt.NDArray[np.float32]

NORM_EPSILON: Final = 1e-5
SEED: Final = 0
LORA_RANK: Final = 8
LORA_ALPHA: Final = 16
_LORA_MODULES: Final = {"q": "attn_q", "v": "attn_v", "o": "attn_output"}  # Hugging Face's names and GGUF's


@dataclass(frozen=True)
class Shape:
    """What a Llama is like. The sentence has 28 words, so `dim` is at least that, and one more with `ends`."""

    dim: int = 64
    layers: int = 2
    heads: int = 2
    kv_heads: int = 2
    head_dim: int = 32
    ff: int = 128
    context: int = 16384
    noise: float = 0.02  # of attention and MLP: many layers need less each, or they drown the recitation
    ends: bool = False  # stop after one pass; else recite until max_tokens


ENDLESS: Final = Shape()
ENDS: Final = Shape(ends=True)
# Deep and thin: a token's many steps take time (about 7 ms) on any machine. Give its engine one thread: where cores are
# busy, several threads wait for each other at each step, and a token takes up to a hundred times as long.
SLOW: Final = Shape(layers=160, kv_heads=1, head_dim=16, ff=256, context=4096, noise=0.002)


@dataclass(frozen=True)
class Layer:
    q: Array
    k: Array
    v: Array
    o: Array
    gate: Array
    up: Array
    down: Array


@dataclass(frozen=True)
class Weights:
    """Matrices are (out, in), as Hugging Face stores them."""

    embedding: Array
    head: Array
    layers: tuple[Layer, ...]


def weights(shape: Shape, vocab: vocabulary.Vocabulary) -> Weights:
    recited = (*vocab.sentence, vocab.id(vocabulary.TURN_END)) if shape.ends else vocab.sentence
    if len(recited) > shape.dim:
        raise ValueError(f"dim is {shape.dim}: one dimension for each of {len(recited)} tokens is needed")
    random = np.random.default_rng(SEED)
    size = (len(vocab.tokens), shape.dim)
    embedding, head = random.normal(0, 0.02, size), random.normal(0, 0.01, size)
    place = {token: index for index, token in enumerate(recited)}
    for token in range(len(vocab.tokens)):
        embedding[token, (place[token] + 1) % len(recited) if token in place else 0] += 1.0
    for token, index in place.items():
        head[token, index] += 12.0 / shape.dim**0.5
    layers = tuple(_layer(shape, random) for _ in range(shape.layers))
    return Weights(embedding.astype(np.float32), head.astype(np.float32), layers)


def _layer(shape: Shape, random: np.random.Generator) -> Layer:
    def noise(rows: int, columns: int) -> Array:
        return random.normal(0, shape.noise, (rows, columns)).astype(np.float32)

    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return Layer(
        q=noise(queries, shape.dim),
        k=noise(keys, shape.dim),
        v=noise(keys, shape.dim),
        o=noise(shape.dim, queries),
        gate=noise(shape.ff, shape.dim),
        up=noise(shape.ff, shape.dim),
        down=noise(shape.dim, shape.ff),
    )


def write_gguf(path: Path, shape: Shape = ENDLESS) -> None:
    import gguf  # noqa: PLC0415 - only who asks for this form needs the library

    vocab = vocabulary.build()
    model = weights(shape, vocab)
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, shape, vocab)
    ones = np.ones(shape.dim, np.float32)
    writer.add_tensor("token_embd.weight", model.embedding)
    writer.add_tensor("output.weight", model.head)
    writer.add_tensor("output_norm.weight", ones)
    for number, layer in enumerate(model.layers):
        tensors = {
            "attn_norm": ones,
            "ffn_norm": ones,
            "attn_q": _interleave_halves(layer.q, shape.heads),
            "attn_k": _interleave_halves(layer.k, shape.kv_heads),
            "attn_v": layer.v,
            "attn_output": layer.o,
            "ffn_gate": layer.gate,
            "ffn_up": layer.up,
            "ffn_down": layer.down,
        }
        for name, tensor in tensors.items():
            writer.add_tensor(f"blk.{number}.{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, shape: Shape, vocab: vocabulary.Vocabulary) -> None:
    control, normal = 3, 1
    writer.add_name("tiny-llama")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.dim)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_vocab_size(len(vocab.tokens))
    writer.add_file_type(0)  # all float32
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocab.tokens)
    writer.add_token_merges([" ".join(pair) for pair in vocab.merges])
    writer.add_token_types([control if token in vocabulary.SPECIAL else normal for token in vocab.tokens])
    writer.add_bos_token_id(vocab.id(vocabulary.END_OF_TEXT))
    writer.add_eos_token_id(vocab.id(vocabulary.TURN_END))
    writer.add_pad_token_id(vocab.id(vocabulary.PAD))
    writer.add_add_bos_token(False)
    writer.add_chat_template(vocabulary.CHAT_TEMPLATE)


def _interleave_halves(matrix: Array, heads: int) -> Array:
    """Rows of each head, from Hugging Face's order for rotary embedding (two halves) to GGML's (pairs side by side)."""
    rows, columns = matrix.shape
    halves = matrix.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def write_folder(path: Path, shape: Shape = ENDLESS) -> None:
    from safetensors.numpy import save_file  # noqa: PLC0415 - only who asks for this form needs the library

    vocab = vocabulary.build()
    model = weights(shape, vocab)
    path.mkdir(parents=True, exist_ok=True)
    save_file(_state(model, shape), path / "model.safetensors", metadata={"format": "pt"})
    ids = {
        "bos_token_id": vocab.id(vocabulary.END_OF_TEXT),
        "eos_token_id": vocab.id(vocabulary.TURN_END),
        "pad_token_id": vocab.id(vocabulary.PAD),
    }
    _write_json(path / "config.json", _config(shape, vocab) | ids)
    _write_json(path / "generation_config.json", ids)
    _write_tokenizer(path, shape, vocab)


def _state(model: Weights, shape: Shape) -> dict[str, Array]:
    ones = np.ones(shape.dim, np.float32)
    state = {"model.embed_tokens.weight": model.embedding, "lm_head.weight": model.head, "model.norm.weight": ones}
    for number, layer in enumerate(model.layers):
        tensors = {
            "input_layernorm": ones,
            "post_attention_layernorm": ones,
            **{f"self_attn.{name}_proj": tensor for name, tensor in asdict(layer).items() if len(name) == 1},
            **{f"mlp.{name}_proj": tensor for name, tensor in asdict(layer).items() if len(name) > 1},
        }
        state |= {f"model.layers.{number}.{name}.weight": tensor for name, tensor in tensors.items()}
    return state


def _config(shape: Shape, vocab: vocabulary.Vocabulary) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.dim,
        "intermediate_size": shape.ff,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": len(vocab.tokens),
        "max_position_embeddings": shape.context,
        "rms_norm_eps": NORM_EPSILON,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
    }


def _write_tokenizer(path: Path, shape: Shape, vocab: vocabulary.Vocabulary) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - as above

    ids = {token: number for number, token in enumerate(vocab.tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=list(vocab.merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(vocabulary.SPECIAL))
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": vocabulary.END_OF_TEXT,
        "eos_token": vocabulary.TURN_END,
        "pad_token": vocabulary.PAD,
        "model_max_length": shape.context,
        "clean_up_tokenization_spaces": False,
        "chat_template": vocabulary.CHAT_TEMPLATE,
    }
    _write_json(path / "tokenizer_config.json", settings)


def write_lora(path: Path, shape: Shape = ENDLESS) -> None:
    """A LoRA adapter for the folder of the same shape: loud noise, so that the text visibly changes."""
    from safetensors.numpy import save_file  # noqa: PLC0415 - as above

    state: dict[str, Array] = {}
    for number, module, (a, b) in _lora(shape):
        name = f"base_model.model.model.layers.{number}.self_attn.{module}_proj"
        state |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    path.mkdir(parents=True, exist_ok=True)
    save_file(state, path / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": LORA_RANK,
        "lora_alpha": LORA_ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": [f"{module}_proj" for module in _LORA_MODULES],
        "base_model_name_or_path": "chat",
    }
    _write_json(path / "adapter_config.json", settings)


def write_lora_gguf(path: Path, shape: Shape = ENDLESS) -> None:
    """The same adapter for the GGUF file of the same shape."""
    import gguf  # noqa: PLC0415 - as above

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(LORA_ALPHA))
    for number, module, (a, b) in _lora(shape):
        name = f"blk.{number}.{_LORA_MODULES[module]}.weight"
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", _interleave_halves(b, shape.heads) if module == "q" else b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _lora(shape: Shape) -> Iterator[tuple[int, str, tuple[Array, Array]]]:
    """The layer, the module and the two matrices, (rank, in) and (out, rank), of each part of the adapter."""
    random = np.random.default_rng(7)
    width = shape.heads * shape.head_dim
    sizes = {"q": (shape.dim, width), "v": (shape.dim, shape.kv_heads * shape.head_dim), "o": (width, shape.dim)}
    for number in range(shape.layers):
        for module, (columns, rows) in sizes.items():
            a, b = (random.normal(0, 0.5, size) for size in ((LORA_RANK, columns), (rows, LORA_RANK)))
            yield number, module, (a.astype(np.float32), b.astype(np.float32))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

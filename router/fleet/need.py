"""How much GPU memory a replica takes: what the file declares, else what was measured, else an estimate."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from launchers import gguf
from launchers.base import Program, Refusal, Source
from router.fleet import gguf_header, weights

OVERHEAD = 512 * 2**20
"""Bytes of a GPU that an engine takes besides weights and cache: the CUDA context, its buffers."""
MARGIN = 1.2
"""Memory of an engine over its weights' size on disk."""
VLLM_SHARE = 0.92
"""Of each GPU's memory, vLLM's own default since 0.32; it was 0.9 before."""
SGLANG_SHARE = 0.88
"""About SGLang's own choice, which depends on the GPU."""
LMDEPLOY_SHARE = 0.8
TRTLLM_SHARE = 0.9
"""Their own defaults."""
PYTHON_CONTEXT = 2048
"""llama-cpp-python's own, in tokens."""
_WITHOUT_TOKENS = ("speech", "image", "video")
"""Kinds of models without a KV cache to fill a GPU with."""
# Bytes of a number in the KV cache: the quantised formats keep 32 numbers and a scale, or two, in a block.
_CACHE_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip


class Spec(Protocol):
    """A model, as far as its size goes; see `router.config.EngineSpec`."""

    @property
    def engine(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def program(self) -> Program: ...
    @property
    def source(self) -> Source: ...
    @property
    def options(self) -> Any: ...
    @property
    def args(self) -> tuple[str, ...]: ...
    @property
    def memory(self) -> int | None: ...


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica takes of each of its GPUs: `fixed` bytes, or a `share` of all its memory if that is more.

    Not `hard`: it makes do with less, so that a GPU with too little free is better than none.
    """

    fixed: int = 0
    share: float = 0.0
    hard: bool = True
    known: Literal["declared", "measured", "estimated"] = "estimated"

    def on(self, total: int) -> int:
        """Bytes of a GPU that has `total` of them."""
        return max(self.fixed, math.ceil(self.share * total))


def need(spec: Spec, gpus: int, *, measured: int | None, environment: Mapping[str, str]) -> Need | None:
    """What a replica of `spec` takes of each of its `gpus` GPUs (at least 1); None where nobody can tell.

    `measured` and the model's `memory` are bytes a GPU, `environment` is the engine's. It reads the model's files: not
    for the event loop.
    """
    if spec.memory is not None:
        return Need(fixed=spec.memory, known="declared")
    guess = _estimate(spec, gpus, environment)
    if measured is None:
        return guess
    if guess is None:
        return Need(fixed=measured, known="measured")
    # vLLM does not start with less than its share free, whatever it took of it the last time.
    return Need(fixed=measured, share=guess.share, hard=guess.hard, known="measured")


def _estimate(spec: Spec, gpus: int, environment: Mapping[str, str]) -> Need | None:
    try:
        return _ESTIMATES.get(spec.engine, _from_weights)(spec, gpus, environment)
    except (OSError, ValueError, Refusal):  # a file that is not there, a flag that is no number
        return None


def _vllm(spec: Spec, gpus: int, environment: Mapping[str, str]) -> Need | None:
    """vLLM claims its share of the GPU whatever the model needs, and does not start if less is free; so too with a KV
    cache of a given size, which it may take beyond the share. vLLM-Omni's engines have shares of their own."""
    if spec.options.omni or spec.kind in _WITHOUT_TOKENS:
        return _shared_out(spec, gpus, environment)
    share = float(_flag(spec, "--gpu-memory-utilization") or spec.options.gpu_memory_utilization or VLLM_SHARE)
    cache = int(_flag(spec, "--kv-cache-memory-bytes") or spec.options.kv_cache_memory_bytes or 0)
    if not cache:
        return Need(share=share)
    size = _weights(spec, environment) or 0
    return Need(fixed=math.ceil(size / gpus * MARGIN) + cache + OVERHEAD, share=share)


def _of_what_is_free(flag: str, share: float) -> "Estimate":
    """Of an engine that takes a `share` of what is free at its start, or of what the weights leave, unless the flag or
    the option of its name says another: it makes do with any GPU that holds its part of the weights."""
    option = flag.lstrip("-").replace("-", "_")

    def estimate(spec: Spec, gpus: int, environment: Mapping[str, str]) -> Need | None:
        if spec.kind in _WITHOUT_TOKENS:
            return _shared_out(spec, gpus, environment)
        given = _flag(spec, flag) or getattr(spec.options, option, None)
        size = _weights(spec, environment) or 0
        return Need(fixed=math.ceil(size / gpus) + OVERHEAD, share=float(given or share), hard=False)

    return estimate


def _shared_out(spec: Spec, gpus: int, environment: Mapping[str, str]) -> Need | None:
    """Of an engine that spreads the model over its GPUs, nobody knows how evenly."""
    size = _weights(spec, environment)
    return None if size is None else Need(fixed=math.ceil(size * MARGIN / gpus) + OVERHEAD, hard=gpus == 1)


def _from_weights(spec: Spec, _gpus: int, environment: Mapping[str, str]) -> Need | None:
    """Of an engine that puts all of the model on each of its GPUs."""
    size = _weights(spec, environment)
    return None if size is None else Need(fixed=math.ceil(size * MARGIN) + OVERHEAD)


def _weights(spec: Spec, environment: Mapping[str, str]) -> int | None:
    folder = weights.folder_of(spec.source, environment)
    return None if folder is None else weights.of_folder(folder)


def _llamacpp(spec: Spec, gpus: int, _environment: Mapping[str, str]) -> Need | None:
    options = spec.options
    if spec.source.where not in ("file", "folder"):
        return None
    path = Path(spec.source.value)
    file = gguf.file_of(path) if spec.source.where == "folder" else path
    size = weights.of_gguf(file) + sum(Path(extra).stat().st_size for extra in _extras(options))
    try:
        attention = gguf_header.read(file)
    except gguf_header.NotReadable:
        return Need(fixed=math.ceil(size * MARGIN * _largest_part(options, gpus)) + OVERHEAD, hard=False)
    context, layers = _context(spec), _layers(spec)
    all_of_it = size + _cache(spec, attention, context or attention.context)
    # The layer behind the last is the head.
    part = 1.0 if layers is None else min(1.0, layers / (attention.layers + 1))
    fixed = math.ceil(all_of_it * part * _largest_part(options, gpus)) + OVERHEAD
    # What is left to llama.cpp's server it chooses so that it fits.
    fits = spec.program.form != "python" and (not context or _word(spec) in (None, "auto"))
    return Need(fixed=fixed, hard=not fits)


def _extras(options: Any) -> Sequence[str]:
    return [*(options.lora or ()), *([options.mmproj] if options.mmproj else [])]


def _largest_part(options: Any, gpus: int) -> float:
    """Of the model, on the GPU that holds most of it."""
    if options.split_mode == "none":
        return 1.0
    shares = options.tensor_split
    return max(shares) / sum(shares) if shares and sum(shares) else 1 / gpus


def _context(spec: Spec) -> int:
    """Tokens of all slots together; 0: the model's own."""
    given = _flag(spec, "-c", "--ctx-size", "--n-ctx")
    if given is not None:
        return int(given)
    if spec.options.context is not None:
        return int(spec.options.context)
    return PYTHON_CONTEXT if spec.program.form == "python" else 0


def _word(spec: Spec) -> str | int | None:
    """What is said of the layers on GPUs."""
    given = _flag(spec, "-ngl", "--gpu-layers", "--n-gpu-layers")
    word: str | int | None = spec.options.gpu_layers if given is None else given
    return word


def _layers(spec: Spec) -> int | None:
    """Layers on GPUs; None: all."""
    word = _word(spec)
    return None if word in (None, "auto", "all") or int(word) < 0 else int(word)


def _cache(spec: Spec, attention: gguf_header.Attention, context: int) -> int:
    """Bytes of the KV cache; an upper bound, as layers with a sliding window keep less."""
    key = _flag(spec, "-ctk", "--cache-type-k") or spec.options.cache_type_k or "f16"
    value = _flag(spec, "-ctv", "--cache-type-v") or spec.options.cache_type_v or "f16"
    each = attention.key * _CACHE_BYTES.get(key, 2.0) + attention.value * _CACHE_BYTES.get(value, 2.0)
    return math.ceil(sum(attention.heads) * each * context)


def _flag(spec: Spec, *names: str) -> str | None:
    """What the model's own flags say; they come last, and the last one rules."""
    found = None
    words = [word for arg in spec.args for word in arg.split("=", 1)]
    for flag, after in pairwise(words):
        if flag.replace("_", "-") in names:
            found = after
    return found


Estimate = Callable[[Spec, int, Mapping[str, str]], Need | None]

_ESTIMATES: dict[str, Estimate] = {
    "vllm": _vllm,
    "sglang": _of_what_is_free("--mem-fraction-static", SGLANG_SHARE),
    "lmdeploy": _of_what_is_free("--cache-max-entry-count", LMDEPLOY_SHARE),
    "trtllm": _of_what_is_free("--free-gpu-memory-fraction", TRTLLM_SHARE),
    "transformers": _shared_out,
    "llamacpp": _llamacpp,
}

"""llama.cpp's own HTTP server out of the `xllamacpp` wheel: `python xllamacpp_server.py --model FILE.gguf --port 8080`.

A library in a wheel has no program to start, so this is one. Flags are `llama-server`'s, by the same names and with the
same meaning; the API key comes from `LLAMA_API_KEY`. It stands alone: the interpreter that has the wheel may have
nothing else. While the model loads, requests are answered with 503. SIGTERM and SIGINT end it at once, with 0 from when
it serves; a model that cannot be served ends it with 1 and one line that says why.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="xllamacpp_server", allow_abbrev=False)
    add = arguments.add_argument
    add("-m", "--model", required=True, metavar="FILE")
    add("-a", "--alias", help="names of the model, separated by commas")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8080)
    add("--api-prefix", default="")
    add("--metrics", action="store_true")
    add("--no-slots", dest="slots", action="store_false")
    add("--webui", action=argparse.BooleanOptionalAction, default=True)
    add("--threads-http", type=int)
    add("--embedding", "--embeddings", dest="embedding", action="store_true")
    add("--rerank", "--reranking", dest="rerank", action="store_true")
    add("--pooling", choices=("none", "mean", "cls", "last", "rank"))
    _add_computing(arguments)
    _add_text(arguments)
    return arguments


def _add_computing(arguments: argparse.ArgumentParser) -> None:
    add = arguments.add_argument
    add("-c", "--ctx-size", type=int, default=0)
    add("-np", "--parallel", type=int, help="slots (default: 4 that share the context)")
    add("-kvu", "--kv-unified", action=argparse.BooleanOptionalAction)
    add("-b", "--batch-size", type=int)
    add("-ub", "--ubatch-size", type=int)
    add("-t", "--threads", type=int)
    add("-tb", "--threads-batch", type=int)
    add("-ngl", "--gpu-layers", "--n-gpu-layers", dest="gpu_layers", help="a number, auto or all")
    add("-sm", "--split-mode", choices=("none", "layer", "row", "tensor"))
    add("-ts", "--tensor-split", help="shares of the GPUs: 3,1")
    add("-mg", "--main-gpu", type=int)
    add("-fa", "--flash-attn", choices=("on", "off", "auto"))
    add("-ctk", "--cache-type-k", metavar="TYPE")
    add("-ctv", "--cache-type-v", metavar="TYPE")
    add("--cache-prompt", action=argparse.BooleanOptionalAction, default=True)
    add("-cram", "--cache-ram", type=int, metavar="MIB")
    add("--no-warmup", dest="warmup", action="store_false")


def _add_text(arguments: argparse.ArgumentParser) -> None:
    add = arguments.add_argument
    add("--jinja", action=argparse.BooleanOptionalAction, default=True)
    add("--chat-template-file", metavar="FILE")
    add("--chat-template-kwargs", type=json.loads, metavar="JSON")
    add("--reasoning-format", choices=("none", "auto", "deepseek", "deepseek-legacy"))
    add("--lora", action="append", default=[], metavar="FILE[,FILE]")
    add("--lora-scaled", action="append", default=[], metavar="FILE:SCALE[,FILE:SCALE]")
    add("-mm", "--mmproj", metavar="FILE")


def parameters(given: argparse.Namespace, key: str) -> Any:
    """`xllamacpp.CommonParams` of the parsed flags; what was not given keeps llama.cpp's default."""
    import xllamacpp as xlc  # noqa: PLC0415  # it takes long enough that --help should not wait for it

    params = xlc.CommonParams()
    params.model.path = given.model
    params.mmproj.path = given.mmproj or ""
    params.hostnames, params.port = [given.host], given.port
    params.api_prefix, params.api_keys = given.api_prefix, [key] if key else []
    params.model_alias = set((given.alias or Path(given.model).stem).split(","))
    params.endpoint_metrics, params.endpoint_slots, params.ui = given.metrics, given.slots, given.webui
    params.embedding = given.embedding or given.rerank
    params.warmup, params.use_jinja, params.cache_prompt = given.warmup, given.jinja, given.cache_prompt
    _set_slots(params, given)
    _set_numbers(params, given)
    _set_choices(params, given, xlc)
    _set_text(params, given, xlc)
    return params


def _set_slots(params: Any, given: argparse.Namespace) -> None:
    # As llama-server does it: without a number there are four slots, and they share one context.
    automatic = given.parallel is None or given.parallel < 0
    params.n_parallel = 4 if automatic else given.parallel
    params.kv_unified = automatic if given.kv_unified is None else given.kv_unified
    params.n_ctx = given.ctx_size


def _set_numbers(params: Any, given: argparse.Namespace) -> None:
    for name, value in (
        ("n_batch", given.batch_size),
        ("n_ubatch", given.ubatch_size),
        ("n_threads_http", given.threads_http),
        ("main_gpu", given.main_gpu),
        ("cache_ram_mib", given.cache_ram),
        ("n_gpu_layers", _layers(given.gpu_layers)),
        ("default_template_kwargs", _encoded(given.chat_template_kwargs)),
    ):
        if value is not None:
            setattr(params, name, value)
    if params.embedding:
        params.n_batch = params.n_ubatch  # an input has to fit one step: llama.cpp issue 12836
    if given.threads:
        params.cpuparams.n_threads = given.threads
    if given.threads_batch or given.threads:
        params.cpuparams_batch.n_threads = given.threads_batch or given.threads
    if given.tensor_split:
        shares = [float(share) for share in given.tensor_split.split(",")]
        params.tensor_split = shares + [0.0] * (len(params.tensor_split) - len(shares))


def _set_choices(params: Any, given: argparse.Namespace, xlc: Any) -> None:
    attention = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}.get(given.flash_attn)
    thinking = given.reasoning_format and given.reasoning_format.replace("-", "_")
    for name, enum, prefix, value in (
        ("pooling_type", xlc.llama_pooling_type, "LLAMA_POOLING_TYPE_", "rank" if given.rerank else given.pooling),
        ("split_mode", xlc.llama_split_mode, "LLAMA_SPLIT_MODE_", given.split_mode),
        ("flash_attn_type", xlc.llama_flash_attn_type, "LLAMA_FLASH_ATTN_TYPE_", attention),
        ("cache_type_k", xlc.ggml_type, "GGML_TYPE_", given.cache_type_k),
        ("cache_type_v", xlc.ggml_type, "GGML_TYPE_", given.cache_type_v),
        ("reasoning_format", xlc.common_reasoning_format, "COMMON_REASONING_FORMAT_", thinking),
    ):
        if value is not None:
            setattr(params, name, enum[prefix + value.upper()])


def _set_text(params: Any, given: argparse.Namespace, xlc: Any) -> None:
    if given.chat_template_file:
        params.chat_template = Path(given.chat_template_file).read_text(encoding="utf-8")
    adapters = [(path, 1.0) for group in given.lora for path in group.split(",")]
    scaled = [one.rpartition(":") for group in given.lora_scaled for one in group.split(",")]
    adapters += [(path, float(scale)) for path, _, scale in scaled]
    if adapters:
        params.lora_adapters = [xlc.CommonAdapterLoraInfo(path, scale) for path, scale in adapters]


def _layers(given: str | None) -> int | None:
    return None if given is None else {"auto": -1, "all": -2}.get(given) or int(given)


def _encoded(given: dict[str, Any] | None) -> dict[str, str] | None:
    return None if given is None else {name: json.dumps(value) for name, value in given.items()}


def fail(problem: str) -> NoReturn:
    sys.stderr.write(f"xllamacpp_server: {problem}\n")
    sys.exit(1)  # not os._exit: llama.cpp logs in a thread, and what it said last would be lost


def serve(given: argparse.Namespace) -> Any:
    """Load the model; return the server, which lives as long as the returned object."""
    for path in filter(None, (given.model, given.mmproj, given.chat_template_file)):
        if not Path(path).is_file():
            fail(f"no such file: {path}")
    try:
        import xllamacpp as xlc  # noqa: PLC0415

        return xlc.Server(parameters(given, os.environ.get("LLAMA_API_KEY", "")))
    except Exception as error:
        fail(f"cannot serve {given.model}: {error}")


def main(argv: Sequence[str] | None = None) -> None:
    given = parser().parse_args(argv)
    # Loading keeps the interpreter to itself, so a handler would wait for its end: minutes, for a large model.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    server = serve(given)
    # Whichever of llama.cpp's threads is interrupted by the signal, this wakes the main one. An Event would not: only a
    # signal to the main thread itself ends its wait.
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    sys.stdout.write(f"listening on {server.listening_address}\n")
    os.read(told, 1)
    # Not by returning: the server's destructor waits for running requests.
    os._exit(0)


if __name__ == "__main__":
    main()

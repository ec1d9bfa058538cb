"""llama.cpp in llama-cpp-python's own server (`python -m llama_cpp.server`): one request at a time."""

from collections.abc import Mapping
from pathlib import Path

from launchers import adapters, devices, gguf, programs
from launchers.base import Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Refusal
from launchers.flags import value
from launchers.kinds import same
from launchers.llamacpp_options import LlamaCppOptions

_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "chat": same("/v1/chat/completions", "/v1/completions"),
    "embedding": same("/v1/embeddings"),
}
# What llama.cpp calls the number formats and split modes in its C interface.
_CACHE_TYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30,
}  # fmt: skip
_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2}
_ELSEWHERE = ("pooling", "jinja", "chat_template", "reasoning_format", "mmproj", "lora_on_request")
# `temperature: null` is refused, and so are token numbers; base64 is answered with numbers, and a stream never says its
# usage.
_DIALECT = Dialect(nulls=False, tokens=False, base64=False)
# Its settings are read from the environment without a prefix, and HOST and PORT there override the flags.
_SCRUB = (
    *("HOST", "PORT", "API_KEY", "SSL_KEYFILE", "SSL_CERTFILE", "INTERRUPT_REQUESTS", "DISABLE_PING_EVENTS"),
    *("ROOT_PATH", "CONFIG_FILE", "MODEL", "MODEL_ALIAS", "N_GPU_LAYERS", "SPLIT_MODE", "MAIN_GPU", "TENSOR_SPLIT"),
    *("VOCAB_ONLY", "USE_MMAP", "USE_MLOCK", "KV_OVERRIDES", "RPC_SERVERS", "SEED", "N_CTX", "N_BATCH", "N_UBATCH"),
    *("N_THREADS", "N_THREADS_BATCH", "ROPE_SCALING_TYPE", "ROPE_FREQ_BASE", "ROPE_FREQ_SCALE", "YARN_EXT_FACTOR"),
    *("YARN_ATTN_FACTOR", "YARN_BETA_FAST", "YARN_BETA_SLOW", "YARN_ORIG_CTX", "MUL_MAT_Q", "LOGITS_ALL", "EMBEDDING"),
    *("OFFLOAD_KQV", "FLASH_ATTN", "LAST_N_TOKENS_SIZE", "LORA_BASE", "LORA_PATH", "NUMA", "CHAT_FORMAT"),
    *("CHAT_TEMPLATE_KWARGS", "CLIP_MODEL_PATH", "CACHE", "CACHE_TYPE", "CACHE_SIZE", "HF_TOKENIZER_CONFIG_PATH"),
    *("HF_PRETRAINED_MODEL_NAME_OR_PATH", "HF_MODEL_REPO_ID", "DRAFT_MODEL", "DRAFT_MODEL_NUM_PRED_TOKENS"),
    *("TYPE_K", "TYPE_V", "VERBOSE"),
)
# It has no health page, and this is the one page that does not take the lock of the model.
_ALIVE = Probe("/openapi.json")


def program_in(place: Path) -> Program | None:
    python = programs.interpreter_with(place, "llama_cpp")
    return Program((str(python), "-I", "-u", "-m", "llama_cpp.server"), "python") if python else None


def command(launch: Launch) -> Command:
    if launch.kind not in _PATHS:
        raise Refusal("kind", f"llama-cpp-python serves no {launch.kind}", "set options.form to server or xllamacpp")
    adapters.refuse(launch, "llama-cpp-python", "set options.form to server or xllamacpp, and see options.lora")
    return Command(
        argv=(*launch.program.argv, *_model(launch), *_flags(launch), *launch.args),
        env={"API_KEY": launch.key, **devices.visible(launch.gpus, launch.accelerator)},
        scrub=_SCRUB,
        readiness=_ALIVE,
        liveness=_ALIVE,
        served=launch.name,
        paths=_PATHS[launch.kind],
        keep_alive=KeepAlive(idle=4),
        concurrency=1,
        dialect=_DIALECT,
    )


def _model(launch: Launch) -> list[str]:
    source = launch.source
    if source.where == "file":
        return ["--model", source.value]
    if source.where == "folder":
        return ["--model", str(gguf.file_of(Path(source.value)))]
    if source.where == "modelscope":
        instead = "download the model and give the path of its .gguf file"
        raise Refusal("model", "llama.cpp cannot load from ModelScope", instead)
    repository, _, quantisation = source.value.partition(":")
    if not quantisation:
        problem = "does not say which file of the repository"
        raise Refusal("model", problem, f"add the quantisation, for example {repository}:Q4_K_M")
    return ["--hf_model_repo_id", repository, "--model", f"*{quantisation}*.gguf"]


def _flags(launch: Launch) -> list[str]:
    options: LlamaCppOptions = launch.options
    _refuse_what_it_lacks(options)
    return [
        *("--model_alias", launch.name, "--host", launch.host, "--port", str(launch.port)),
        # Its default lets any second request cut a running stream short.
        *("--interrupt_requests", "False"),
        *(["--embedding", "True"] if launch.kind == "embedding" else []),
        *value("--n_ctx", options.context),
        *_devices(launch, options),
        *value("--flash_attn", options.flash_attention if isinstance(options.flash_attention, bool) else None),
        *value("--type_k", _CACHE_TYPES[options.cache_type_k] if options.cache_type_k else None),
        *value("--type_v", _CACHE_TYPES[options.cache_type_v] if options.cache_type_v else None),
        *value("--n_batch", options.batch),
        *value("--n_ubatch", options.ubatch),
        *value("--n_threads", options.threads),
        *value("--lora_path", options.lora[0] if options.lora else None),
    ]


def _devices(launch: Launch, options: LlamaCppOptions) -> list[str]:
    layers = {"all": -1, "auto": -1}.get(str(options.gpu_layers), options.gpu_layers)
    if launch.gpus == ():
        if layers:
            raise Refusal("options.gpu_layers", "the model has no GPU", "remove it, or give the model GPUs")
        return ["--n_gpu_layers", "0"]
    if launch.gpus and layers is None:
        layers = -1  # its default is the CPU, which is not what GPUs were given for
    split = [str(share) for share in options.tensor_split or ()]
    return [
        *value("--n_gpu_layers", layers),
        *value("--split_mode", _SPLIT_MODES[options.split_mode] if options.split_mode else None),
        *(["--tensor_split", *split] if split else []),
        *value("--main_gpu", options.main_gpu),
    ]


def _refuse_what_it_lacks(options: LlamaCppOptions) -> None:
    instead = "set options.form to server or xllamacpp"
    for field in _ELSEWHERE:
        if getattr(options, field) is not None:
            raise Refusal(f"options.{field}", "llama-cpp-python has no such setting", f"remove it, or {instead}")
    if options.slots and options.slots > 1:
        raise Refusal("options.slots", "llama-cpp-python serves one request at a time", f"remove it, or {instead}")
    if options.lora and len(options.lora) > 1:
        raise Refusal("options.lora", "llama-cpp-python takes one adapter", f"keep one, or {instead}")

"""The two forms of llama.cpp's own HTTP server: the `llama-server` program, and our wrapper of the xllamacpp wheel."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from launchers import adapters, devices, gguf, programs
from launchers.base import Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Refusal
from launchers.flags import joined, switch, value
from launchers.kinds import same
from launchers.llamacpp_options import LlamaCppOptions

_WRAPPER = Path(__file__).with_name("xllamacpp_server.py")
_TOKENS = ("/tokenize", "/detokenize")
_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "chat": same(
        *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
        *("/apply-template", "/infill", *_TOKENS),
    ),
    "embedding": same("/v1/embeddings", *_TOKENS),
    "rerank": {**dict.fromkeys(("/v1/rerank", "/v2/rerank"), "/v1/rerank"), **same(*_TOKENS)},
    # A chat model that hears, with its projector in options.mmproj.
    "transcription": same("/v1/audio/transcriptions"),
}
KINDS: tuple[Kind, ...] = tuple(_PATHS)
_KIND_FLAGS: Mapping[Kind, tuple[str, ...]] = {"embedding": ("--embeddings",), "rerank": ("--reranking",)}
# `encoding_format: null` is a 500. A rerank's scores are the model's logits.
# Its streams tell the tokens unasked, in `timings`, which would stand elsewhere if it were asked for usage.
_DIALECT = Dialect(nulls=False, logits=True)
_ATTENTION: Mapping[bool | str | None, str | None] = {True: "on", False: "off", "auto": "auto", None: None}
# Every flag has an LLAMA_ARG_ variable. AIP_MODE=PREDICTION (a Vertex AI host) would move the port.
_SCRUB = ("LLAMA_ARG_*", "LLAMA_API_KEY", "LLAMA_SERVER_*", "AIP_*")
_HEALTH = Probe("/health")
# As many requests at a time as it has slots; the others wait in the router. llama.cpp looks for a client that has left
# its queue only when nothing else has happened for a second, so that one stream keeps it from ever looking; the router
# lets a waiting client go at once. Its queue is also the slower one: 1,000 requests at once took 3 to 6 s in it.
_AUTO_SLOTS = 4  # what it makes of no `--parallel`
# A thread serves one connection, and keeps it for 5 s after its last request. A burst that comes faster than threads
# wake up is shared out among those there are, so that requests wait 5 s and more behind idle connections: seen with 64
# at once. With a thread for each connection that the router may open none waits.
_SPARE_THREADS = 16  # for probes, and for connections that are just being closed


def program_in(place: Path) -> Program | None:
    found = programs.inside(place, "llama-server")
    return Program((str(found),), "server") if found else None


def wrapper_in(place: Path) -> Program | None:
    python = programs.interpreter_with(place, "xllamacpp")
    # By path: the interpreter that has the wheel may not have our package. Isolated, unbuffered.
    return Program((str(python), "-I", "-u", str(_WRAPPER)), "xllamacpp") if python else None


def command(launch: Launch) -> Command:
    adapters.refuse(launch, "llama.cpp", "use options.lora and options.lora_on_request, which say how")
    return Command(
        argv=(*launch.program.argv, *_model(launch), *_flags(launch), *launch.args),
        env={"LLAMA_API_KEY": launch.key, **devices.visible(launch.gpus, launch.accelerator)},
        scrub=_SCRUB,
        readiness=_HEALTH,
        liveness=_HEALTH,
        served=launch.name,
        paths=_PATHS[launch.kind],
        # It says so itself: `Keep-Alive: timeout=5, max=100`.
        keep_alive=KeepAlive(idle=4, requests=100),
        concurrency=_slots(launch),
        dialect=_DIALECT,
    )


def _slots(launch: Launch) -> int:
    """How many requests it computes at a time. The last flag rules, as it does for llama.cpp."""
    words = [*(word for arg in launch.args for word in arg.split("=", 1)), ""]
    given = [after for flag, after in pairwise(words) if flag in ("-np", "--parallel") and after.isdigit()]
    options: LlamaCppOptions = launch.options
    return max(1, int(given[-1])) if given else options.slots or _AUTO_SLOTS


def _model(launch: Launch) -> list[str]:
    source = launch.source
    if source.where == "folder":
        return ["--model", str(gguf.file_of(Path(source.value)))]
    if source.where == "file":
        return ["--model", source.value]
    if source.where == "hub" and launch.program.form == "server":
        return ["--hf-repo", source.value]
    where = "Hugging Face" if source.where == "hub" else "ModelScope"
    instead = "download the model and give the path of its .gguf file"
    if source.where == "hub":
        instead += ", or install llama-server and set options.form to server"
    raise Refusal("model", f"this form of llama.cpp does not download from {where}", instead)


def _flags(launch: Launch) -> list[str]:
    options: LlamaCppOptions = launch.options
    return [
        *("--alias", launch.name, "--host", launch.host, "--port", str(launch.port)),
        *("--metrics", "--no-webui"),
        *("--threads-http", str(_slots(launch) + _SPARE_THREADS)),
        *_KIND_FLAGS.get(launch.kind, ()),
        *value("--ctx-size", options.context),
        *value("--parallel", options.slots),
        *_devices(launch, options),
        *_computing(options),
        *value("--pooling", options.pooling),
        *switch("--jinja", options.jinja),
        *value("--chat-template-file", options.chat_template),
        *value("--reasoning-format", options.reasoning_format),
        *_lora(options),
        *value("--mmproj", options.mmproj),
    ]


def _lora(options: LlamaCppOptions) -> list[str]:
    if not options.lora_on_request:
        return joined("--lora", options.lora)
    if not options.lora:
        raise Refusal("options.lora_on_request", "there is no adapter", "name their files in options.lora")
    # `--lora-init-without-apply` applies them all the same, to the first request that does not say which. And a slot
    # keeps its prompt's cache when the next request has no adapter and the last one had: nonsense, seen in b11549.
    return [*joined("--lora-scaled", [f"{file}:0" for file in options.lora]), "--no-cache-prompt"]


def _devices(launch: Launch, options: LlamaCppOptions) -> list[str]:
    if launch.gpus == ():
        return _no_devices(launch, options)
    return [
        *value("--gpu-layers", options.gpu_layers),
        *value("--split-mode", options.split_mode),
        *joined("--tensor-split", options.tensor_split),
        *value("--main-gpu", options.main_gpu),
    ]


def _no_devices(launch: Launch, options: LlamaCppOptions) -> list[str]:
    if options.gpu_layers:
        raise Refusal("options.gpu_layers", "the model has no GPU", "remove it, or give the model GPUs")
    # Hiding CUDA's devices leaves Vulkan's; the wheel has no device list.
    return ["--device", "none"] if launch.program.form == "server" else ["--gpu-layers", "0"]


def _computing(options: LlamaCppOptions) -> list[str]:
    return [
        *value("--flash-attn", _ATTENTION[options.flash_attention]),
        *value("--cache-type-k", options.cache_type_k),
        *value("--cache-type-v", options.cache_type_v),
        *value("--batch-size", options.batch),
        *value("--ubatch-size", options.ubatch),
        *value("--threads", options.threads),
    ]

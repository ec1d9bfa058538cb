"""infinity (`infinity_emb v2`): embeddings and rerank for Hugging Face models, on GPUs and CPUs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from launchers import adapters, devices, programs, sources
from launchers.base import CPU_TORCH, Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Recipe
from launchers.flags import switch, value

Meta = msgspec.Meta


class InfinityOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of infinity. What is not set is left to it; any other flag of `infinity_emb v2` goes into `args`."""

    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"] | None,
        Meta(description="Where the model runs. Not set: cuda where the model has GPUs, cpu where it has none."),
    ] = None
    batch_size: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Texts computed at the same time; more needs more memory.")
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16", "int8", "fp8"] | None,
        Meta(description="Number format of the weights."),
    ] = None
    embedding_dtype: Annotated[
        Literal["float32", "int8", "uint8", "binary", "ubinary"] | None,
        Meta(description="Number format of the vectors in the answer; anything but float32 quantises them."),
    ] = None
    engine: Annotated[
        Literal["torch", "optimum", "ctranslate2", "neuron", "debugengine"] | None,
        Meta(description="What computes: torch, or optimum (ONNX), whose packages `router install` does not bring."),
    ] = None
    pooling_method: Annotated[
        Literal["auto", "mean", "cls"] | None,
        Meta(description="How token vectors become one vector, where the model's files do not say it right."),
    ] = None
    revision: Annotated[str | None, Meta(description="Branch, tag or commit of the model's repository.")] = None
    trust_remote_code: Annotated[
        bool,
        Meta(
            description="Run Python code that comes with the model. Only for models you trust (infinity's own: true)."
        ),
    ] = False
    bettertransformer: Annotated[
        bool | None, Meta(description="Use the faster attention of optimum's BetterTransformer where it is installed.")
    ] = None
    compile: Annotated[
        bool | None, Meta(description="Compile the model by torch.compile: slower start, faster after.")
    ] = None
    warmup: Annotated[
        bool | None, Meta(description="Compute a few batches before being ready, and log the throughput.")
    ] = None
    lengths_via_tokenize: Annotated[
        bool | None, Meta(description="Count `usage` in real tokens. Infinity's own default counts characters.")
    ] = None
    vector_disk_cache: Annotated[
        bool | None, Meta(description="Keep answers in a cache on disk and reuse them for equal texts.")
    ] = None


_PREFIX = "/v1"
_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "embedding": {"/v1/embeddings": "/v1/embeddings"},
    # A model with several labels classifies instead of ranking; infinity says which a model can.
    "rerank": {**dict.fromkeys(("/v1/rerank", "/v2/rerank"), "/v1/rerank"), "/classify": "/v1/classify"},
}
# `dimensions: null` is refused, and so are token numbers, and the 2,049th input.
_DIALECT = Dialect(nulls=False, tokens=False, max_inputs=2048)
_ENV = {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "PYTHONUNBUFFERED": "1"}
_HEALTH = Probe("/health")


class Infinity:
    name = "infinity"
    summary = "infinity: embeddings and rerank for Hugging Face models"
    Options: type[msgspec.Struct] = InfinityOptions
    kinds: tuple[Kind, ...] = ("embedding", "rerank")
    default_kind: Kind = "embedding"
    recipes: Mapping[str, Recipe] = {
        "gpu": Recipe(lock="infinity.lock", check="bin/infinity_emb"),
        "cpu": Recipe(lock="infinity-cpu.lock", check="bin/infinity_emb", missing=CPU_TORCH),
    }

    def find(self, places: Sequence[Path], options: InfinityOptions) -> Program | None:  # noqa: ARG002
        found = programs.find(places, "infinity_emb")
        return Program((str(found),)) if found else None

    def command(self, launch: Launch) -> Command:
        adapters.refuse(launch, "infinity", "remove `lora`, and give a model that has the adapter merged in")
        model = sources.folder_or_id(launch, "infinity")
        return Command(
            argv=(*launch.program.argv, "v2", "--model-id", model, *_flags(launch), *launch.args),
            env={**_ENV, "INFINITY_API_KEY": launch.key, **devices.visible(launch.gpus, launch.accelerator)},
            scrub=("INFINITY_*", "PYTHONHOME", "PYTHONPATH"),
            readiness=_HEALTH,
            liveness=_HEALTH,
            served=launch.name,
            paths=_PATHS[launch.kind],
            keep_alive=KeepAlive(idle=4),
            dialect=_DIALECT,
        )


def _flags(launch: Launch) -> list[str]:
    options: InfinityOptions = launch.options
    return [
        *("--served-model-name", launch.name, "--host", launch.host, "--port", str(launch.port)),
        *("--url-prefix", _PREFIX),
        *_device(launch.gpus, options.device),
        *value("--batch-size", options.batch_size),
        *value("--dtype", options.dtype),
        *value("--embedding-dtype", options.embedding_dtype),
        *value("--engine", options.engine),
        *value("--pooling-method", options.pooling_method),
        *value("--revision", options.revision),
        *switch("--trust-remote-code", options.trust_remote_code),
        *switch("--bettertransformer", options.bettertransformer),
        *switch("--compile", options.compile),
        *switch("--model-warmup", options.warmup),
        *switch("--lengths-via-tokenize", options.lengths_via_tokenize),
        *switch("--vector-disk-cache", options.vector_disk_cache),
    ]


def _device(gpus: tuple[str, ...] | None, device: str | None) -> list[str]:
    if gpus is None:
        return value("--device", device)
    if not gpus:
        return ["--device", device or "cpu"]
    # The engine counts the GPUs that it sees, from 0, and puts a copy of the model on each.
    return ["--device", device or "cuda", "--device-id", ",".join(str(index) for index in range(len(gpus)))]

"""Text Embeddings Inference (`text-embeddings-router`): embeddings and rerank, a program of Hugging Face's in Rust."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from launchers import devices, programs, sources
from launchers.base import Command, Dialect, KeepAlive, Kind, Launch, Probe, Program, Recipe, Refusal
from launchers.flags import value

Meta = msgspec.Meta
Size = Annotated[int, Meta(ge=1)]


class TeiOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of TEI. What is not set is left to it; other flags of `text-embeddings-router` go into `args`."""

    dtype: Annotated[
        Literal["float16", "float32", "bfloat16"] | None,
        Meta(description="Number format of the weights; which there are depends on how TEI was built."),
    ] = None
    pooling: Annotated[
        Literal["cls", "mean", "splade", "last-token"] | None,
        Meta(description="How token vectors become one vector, where the model's files do not say it right."),
    ] = None
    revision: Annotated[str | None, Meta(description="Branch, tag or commit of the model's repository.")] = None
    max_batch_tokens: Annotated[
        Size | None, Meta(description="Tokens computed at the same time; more needs more memory.")
    ] = None
    max_batch_requests: Annotated[Size | None, Meta(description="Texts computed at the same time.")] = None
    max_client_batch_size: Annotated[
        Size, Meta(description="Texts in one request; more for embeddings are asked in parts. TEI's own default: 32.")
    ] = 1024
    max_concurrent_requests: Annotated[
        Size,
        Meta(
            description="Texts that are computed or wait, of all requests together; one more is a 429. TEI's own: 512."
        ),
    ] = 8192
    payload_limit: Annotated[Size, Meta(description="Largest request in bytes. TEI's own default: 2 MB.")] = 64_000_000
    auto_truncate: Annotated[
        bool | None, Meta(description="Cut texts that are too long for the model. If false, they are refused.")
    ] = None
    tokenization_workers: Annotated[
        Size | None, Meta(description="Threads that count and cut texts. Not set: one for each core.")
    ] = None
    default_prompt: Annotated[
        str | None, Meta(description='Text put before each text that is embedded, like "query: ".')
    ] = None
    default_prompt_name: Annotated[
        str | None, Meta(description="Name of such a text among the `prompts` of the model's own files.")
    ] = None


_TOKENS = {"/tokenize": "/tokenize", "/detokenize": "/decode"}
_PATHS: Mapping[Kind, Mapping[str, str]] = {
    "embedding": {"/v1/embeddings": "/v1/embeddings"} | _TOKENS,
    "rerank": dict.fromkeys(("/v1/rerank", "/v2/rerank"), "/rerank") | _TOKENS,
}
# It takes every flag from the environment too, by names as common as these. The hub's own stay: HF_TOKEN and the like.
_SCRUB = (
    "MODEL_ID", "REVISION", "TOKENIZATION_WORKERS", "DTYPE", "SERVED_MODEL_NAME", "POOLING", "MAX_CONCURRENT_REQUESTS",
    "MAX_BATCH_TOKENS", "MAX_BATCH_REQUESTS", "MAX_CLIENT_BATCH_SIZE", "AUTO_TRUNCATE", "DEFAULT_PROMPT_NAME",
    "DEFAULT_PROMPT", "DENSE_PATH", "HOSTNAME", "PORT", "UDS_PATH", "PAYLOAD_LIMIT", "API_KEY", "JSON_OUTPUT",
    "DISABLE_SPANS", "OTLP_ENDPOINT", "OTLP_SERVICE_NAME", "PROMETHEUS_PORT", "CORS_ALLOW_ORIGIN", "LOG_LEVEL", "TASK",
    "AIP_*",
)  # fmt: skip
# At `info` the program's own module prints all its arguments, the key among them.
_LOG = "info,text_embeddings_router=warn,text_embeddings_router::http=info"
_HEALTH = Probe("/health")


class Tei:
    name = "tei"
    summary = "Text Embeddings Inference: embeddings and rerank for Hugging Face models, in Rust"
    Options: type[msgspec.Struct] = TeiOptions
    kinds: tuple[Kind, ...] = ("embedding", "rerank")
    default_kind: Kind = "embedding"
    recipes: Mapping[str, Recipe] = {}

    def find(self, places: Sequence[Path], options: TeiOptions) -> Program | None:  # noqa: ARG002
        found = programs.find(places, "text-embeddings-router")
        return Program((str(found),)) if found else None

    def command(self, launch: Launch) -> Command:
        options: TeiOptions = launch.options
        return Command(
            argv=(*launch.program.argv, "--model-id", _model(launch), *_flags(launch, options), *launch.args),
            env={"API_KEY": launch.key, "LOG_LEVEL": _LOG, **devices.visible(launch.gpus, launch.accelerator)},
            scrub=_SCRUB,
            readiness=_HEALTH,
            liveness=_HEALTH,
            served=launch.name,
            paths=_PATHS[launch.kind],
            keep_alive=KeepAlive(idle=110),  # it closes none
            # Null for `encoding_format` is a 422.
            dialect=Dialect(nulls=False, max_inputs=options.max_client_batch_size, texts=True),
        )


def _model(launch: Launch) -> str:
    if launch.lora:
        raise Refusal("lora", "TEI has no LoRA adapters", "merge the adapter into the model")
    return sources.folder_or_id(launch, "TEI")


def _flags(launch: Launch, options: TeiOptions) -> list[str]:
    if options.default_prompt is not None and options.default_prompt_name is not None:
        raise Refusal("options.default_prompt_name", "is beside default_prompt", "keep one of the two")
    return [
        *("--served-model-name", launch.name, "--hostname", launch.host, "--port", str(launch.port)),
        # Bound for a moment and never served (`/metrics` is on the port itself): 0 is any that is free.
        *("--prometheus-port", "0", "--uds-path", f"/tmp/text-embeddings-inference-{launch.port}"),  # noqa: S108
        *("--payload-limit", str(options.payload_limit)),
        *("--max-client-batch-size", str(options.max_client_batch_size)),
        *("--max-concurrent-requests", str(options.max_concurrent_requests)),
        *value("--max-batch-tokens", options.max_batch_tokens),
        *value("--max-batch-requests", options.max_batch_requests),
        *value("--dtype", options.dtype),
        *value("--pooling", options.pooling),
        *value("--revision", options.revision),
        *value("--auto-truncate", None if options.auto_truncate is None else str(options.auto_truncate).lower()),
        *value("--tokenization-workers", options.tokenization_workers),
        *value("--default-prompt", options.default_prompt),
        *value("--default-prompt-name", options.default_prompt_name),
    ]

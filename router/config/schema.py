"""What may stand in `router.yaml`. A field's description is its only documentation: the reference and the JSON schema
are made from it."""

from typing import Annotated, Any, Literal

import msgspec

from launchers.base import Kind
from launchers.devices import Accelerator
from router.config.values import Digest, Duration, Secret, Size, Timeout

Text = Annotated[str, msgspec.Meta(min_length=1)]
Weight = Annotated[int, msgspec.Meta(ge=1, le=1000)]


def _text(description: str, *examples: Any) -> msgspec.Meta:
    return msgspec.Meta(description=description, examples=list(examples) or None)


_NOT_THE_ROUTERS = msgspec.Meta(extra_json_schema={"propertyNames": {"not": {"enum": ["model", "stream"]}}})


Drop = Annotated[
    list[Text],
    _text(
        "Fields of a request's JSON that the engine is not sent; a dot leads inside.",
        ["user", "stream_options.include_usage"],
    ),
]
Set = Annotated[
    dict[str, Any],
    _text(
        "Fields that a request is given, whatever the client said. Mappings are merged.",
        {"chat_template_kwargs": {"enable_thinking": False}},
    ),
    _NOT_THE_ROUTERS,
]
Default = Annotated[
    dict[str, Any],
    _text("Fields that a request is given where the client said nothing. Mappings are merged.", {"temperature": 0.6}),
    _NOT_THE_ROUTERS,
]


class Shared(msgspec.Struct, kw_only=True, frozen=True):
    """What a model may say for itself and `defaults` for all of them."""

    gpus: Annotated[
        int | Text | list[int | Text] | None,
        _text(
            "The GPUs of each replica: a number (that many, chosen for you), a list of NVML indices or UUIDs, `auto` "
            "(one, chosen for you) or `none` (CPU only). Without it the engine sees what the router sees.",
            [0, 1],
            "auto",
            2,
        ),
    ] = None
    accelerator: Annotated[
        Accelerator,
        _text("Whose GPUs they are. Others than cuda are written by index, and neither counted nor checked.", "rocm"),
    ] = "cuda"
    env: Annotated[
        dict[str, str],
        _text(
            "Environment of the engine, over the inherited one. A model's adds to that of `defaults`.",
            {"HF_HUB_OFFLINE": 1},
        ),
    ] = {}
    environment: Annotated[
        Text | None,
        _text(
            "The virtual environment, interpreter or program that holds the engine. Without it: what `router install` "
            "made, then the router's own environment, then PATH.",
            "~/venvs/vllm",
        ),
    ] = None
    start_timeout: Annotated[Timeout, _text("How long an engine may take until it is ready.", "10m")] = Timeout(600)
    stop_grace: Annotated[
        Duration, _text("How long an engine may take to end after SIGTERM before all of it is killed.", "30s")
    ] = Duration(30)
    retire_timeout: Annotated[
        Duration,
        _text(
            "How long the requests at an engine may go on when a changed file replaces or removes it (`router apply`).",
            "5m",
        ),
    ] = Duration(300)
    memory: Annotated[
        Size | None,
        _text("What a replica takes of each of its GPUs; else it is measured, and estimated the first time.", "18GiB"),
    ] = None
    liveness_interval: Annotated[
        Timeout, _text("How often an engine that is ready and says nothing is asked whether it lives.", "10s")
    ] = Timeout(10)
    liveness_timeout: Annotated[Timeout, _text("How long it may take to answer that.", "5s")] = Timeout(5)
    liveness_failures: Annotated[
        int,
        msgspec.Meta(ge=1, le=100),
        _text(
            "After how many failures in a row it is ended and started again; after two it gets no requests. An engine "
            "that answers nobody else while it computes needs more.",
            3,
        ),
    ] = 3
    deep_probe: Annotated[
        bool, _text("Whether an engine without requests is asked for one token as well, each time.", False)
    ] = False
    queue_timeout: Annotated[
        Duration,
        _text("How long a request waits for a replica before it is answered with 503; 0: it does not wait.", "1m"),
    ] = Duration(60)
    queue_size: Annotated[int, msgspec.Meta(ge=0), _text("How many requests may wait for a replica at once.", 1024)] = (
        1024
    )
    connect_timeout: Annotated[Timeout, _text("How long a connection to the engine may take to open.", "5s")] = Timeout(
        5
    )
    response_timeout: Annotated[
        Timeout,
        _text(
            "How long the engine may take to begin its answer; an answer that is not streamed begins when done.", "10m"
        ),
    ] = Timeout(600)
    stall_timeout: Annotated[
        Timeout, _text("How long an answer that has begun may stand still before it is given up.", "5m")
    ] = Timeout(300)

    keepalive: Annotated[
        Duration,
        _text(
            "While a streamed answer has not begun the client gets a sign of life this often; 0: none. Once one was "
            "sent, an error comes as the stream's last event.",
            "10s",
        ),
    ] = Duration(10)
    retry_budget: Annotated[
        float,
        msgspec.Meta(ge=0, le=1),
        _text(
            "Share of a model's requests that may be sent again to another replica or model; a few a second are always "
            "allowed.",
            0.2,
        ),
        msgspec.Meta(extra={"remedy": "write a share from 0 to 1: 0.2 is a fifth"}),
    ] = 0.2

    def __repr__(self) -> str:
        """Without the values: `env`, `args`, `set` and `default` may hold secrets."""
        return f"{type(self).__name__}(…)"


class AliasEntry(msgspec.Struct, kw_only=True, frozen=True):
    """What requests under one alias are changed by, over the model's own `drop`, `set` and `default`."""

    drop: Drop = []
    set: Set = {}
    default: Default = {}

    def __repr__(self) -> str:
        """Without the values: they may hold secrets."""
        return "AliasEntry(…)"


class ModelEntry(Shared, kw_only=True, frozen=True):
    """One model: started here (`engine` and `model`), a server elsewhere (`url`), or a name over several (`group`)."""

    engine: Annotated[Text | None, _text("The launcher that starts it.", "vllm")] = None
    model: Annotated[
        Text | None,
        _text(
            "A Hugging Face id, `modelscope://id`, or a folder or file (relative to this file).",
            "Qwen/Qwen3-8B",
            "./models/qwen.gguf",
        ),
    ] = None
    url: Annotated[
        Text | None,
        _text(
            "The base address of an OpenAI-compatible server elsewhere, up to and with `/v1`.",
            "https://api.example.com/v1",
        ),
    ] = None
    api_key: Annotated[Secret | None, _text("The key of that server.", "${UPSTREAM_KEY}")] = None
    api_key_file: Annotated[Text | None, _text("A file that holds the key of that server.", "/run/secrets/key")] = None
    upstream_model: Annotated[
        Text | None, _text("What that server calls the model; the public name if it says nothing.", "gpt-4.1")
    ] = None
    kind: Annotated[Kind | None, _text("What it is; the launcher's default if it says nothing.", "embedding")] = None
    group: Annotated[
        Annotated[dict[Text, Weight], msgspec.Meta(min_length=1)] | None,
        _text(
            "In place of an engine: the models that share its requests, each with its weight.",
            {"with-vllm": 3, "elsewhere": 1},
        ),
    ] = None
    aliases: Annotated[
        list[Text] | dict[Text, AliasEntry | None],
        _text(
            "More names that lead to it; as a mapping, each with what its requests are changed by.",
            ["gpt-4o-mini"],
            {"qwen-nothink": {"set": {"chat_template_kwargs": {"enable_thinking": False}}}},
        ),
    ] = []
    drop: Drop = []
    set: Set = {}
    default: Default = {}
    fallback: Annotated[
        list[Text],
        _text(
            "Models that are asked, in this order, where this one cannot answer: its engine failed, its queue is full, "
            "the context is too long. Only before the first byte of an answer. Each is asked with its own edits.",
            ["other", "cloud"],
        ),
    ] = []
    lora: Annotated[
        dict[Text, Text],
        _text(
            "LoRA adapters by the names that clients ask for, each a folder or file (relative to this file) or a "
            "Hugging Face id. For engines that serve them beside the model.",
            {"qwen-sql": "./adapters/sql"},
        ),
    ] = {}
    normalize_scores: Annotated[
        bool, _text("Whether a reranker's scores are brought to 0 to 1 where the engine's are not.", False)
    ] = False
    decode_openai_tokens: Annotated[
        bool,
        _text(
            "Whether embeddings that come as the token numbers of OpenAI's cl100k_base (LangChain's default) are "
            "turned into text again before the engine reads them as its own.",
            False,
        ),
    ] = False
    max_inputs: Annotated[
        Annotated[int, msgspec.Meta(ge=1)] | None,
        _text("Texts that one request for embeddings may hold; more are asked in parts and joined.", 32),
    ] = None
    info: Annotated[
        dict[str, Any],
        _text(
            "What `/v1/models` says of it besides, over what was found out.",
            {"model_ability": ["chat", "tools"], "context_length": 32768},
        ),
    ] = {}
    replicas: Annotated[int, msgspec.Meta(ge=1, le=64), _text("How many engines share its requests.", 1)] = 1
    options: Annotated[dict[str, Any], _text("What the launcher offers, see the options of each engine below.")] = {}
    args: Annotated[
        list[str],
        _text("Flags handed to the engine as they are, after all others.", ["--swap-space", 8]),
    ] = []


class KeyEntry(msgspec.Struct, kw_only=True, frozen=True):
    """One client's key: as a hash, or from the environment."""

    name: Annotated[Text, _text("Who holds it.", "dify")]
    hash: Annotated[
        Digest | None,
        _text(
            '`sha256:` and the key\'s SHA-256 in hex (`printf %s "$KEY" | sha256sum`).',
            "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b",
        ),
    ] = None
    key: Annotated[
        Secret | None, _text("The key itself, 8 characters or more, from the environment.", "${N8N_KEY}")
    ] = None
    admin: Annotated[
        bool,
        _text(
            "Whether it may launch and terminate models, and its errors tell all about an engine that failed, the end "
            "of its log too.",
            False,
        ),
    ] = False


class LogEntry(msgspec.Struct, kw_only=True, frozen=True):
    """The router's own log, the log file of each engine, and the one of all requests."""

    format: Annotated[
        Literal["text", "json"], _text("How the router writes its own log on stderr: for people or machines.", "text")
    ] = "text"

    access: Annotated[bool, _text("Whether each request is a line of JSON in `requests.log` in `state_dir`.", True)] = (
        True
    )
    max_size: Annotated[Size, _text("A log is rotated beyond this size.", "50MiB")] = Size(50 * 2**20)
    keep: Annotated[int, msgspec.Meta(ge=0, le=100), _text("How many rotated logs are kept.", 3)] = 3


class RouterFile(msgspec.Struct, kw_only=True, frozen=True):
    """The whole file."""

    models: Annotated[dict[str, ModelEntry], _text("The models by their public name.")]
    listen: Annotated[
        Text,
        _text(
            "Address and port; port 0 takes a free one. Beyond loopback it needs `keys`, or `auth: none`.",
            "127.0.0.1:8000",
            "[::1]:8000",
        ),
    ] = "127.0.0.1:8000"
    auth: Annotated[
        Literal["keys", "none"],
        _text("`none` lets everybody in on any address: only behind something that checks.", "keys"),
    ] = "keys"
    keys: Annotated[list[KeyEntry], _text("Who may ask; without any, everybody who reaches the address.")] = []
    defaults: Annotated[Shared, _text("What holds for every model that does not say otherwise.")] = Shared()
    state_dir: Annotated[
        Text, _text("Where sockets, locks and logs are kept; one running router each.", "~/.local/state/engine-router")
    ] = "~/.local/state/engine-router"
    engines_dir: Annotated[
        Text, _text("Where `router install` keeps the engines' environments.", "~/.local/share/engine-router/engines")
    ] = "~/.local/share/engine-router/engines"
    max_body: Annotated[Size, _text("A larger request body is refused.", "64MiB")] = Size(64 * 2**20)
    body_timeout: Annotated[
        Timeout, _text("How long a client may pause in the middle of sending its request.", "1m")
    ] = Timeout(60)
    send_timeout: Annotated[
        Timeout, _text("How long a client may leave its answer unread before it is given up.", "5m")
    ] = Timeout(300)
    drain_timeout: Annotated[
        Duration, _text("How long requests in flight may go on after Ctrl-C or `router down`.", "5s")
    ] = Duration(5)
    orphan_grace: Annotated[Duration, _text("How long engines outlive a router that was killed.", "1m")] = Duration(60)
    log: Annotated[LogEntry, _text("The logs of the engines and of the requests.")] = LogEntry()

"""Causes that lie with the model: where it comes from, its files, and whether the engine knows its kind."""

from router.fleet.diagnosis.cause import Cause

CAUSES = (
    Cause(
        "the model's repository is closed to this machine's token",
        (
            "You are trying to access a gated repo",
            "Cannot access gated repo",
            "Access to model…is restricted",
            "GatedRepoError",
        ),
        "accept the terms on the model's page, and hand over a token of that account: `env: {HF_TOKEN: "
        '"${HF_TOKEN}"}`',
    ),
    Cause(
        "the hub has no such revision of the model",
        ("Revision Not Found for url", "is not a valid git identifier"),
        "correct the revision",
        {"infinity": "correct `options.revision`", "vllm": "correct `--revision` in `args`"},
    ),
    Cause(
        "there is no such model on the hub",
        (
            "Repository Not Found for url",
            "is not a local folder and is not a valid model identifier",
            "Repo id must be in the form",
            "Repo id must use alphanumeric chars",
        ),
        "correct `model:` (an id like org/name, or a folder or file that exists); for a private one set `env: "
        '{HF_TOKEN: "${HF_TOKEN}"}`',
    ),
    Cause(
        "the hub's certificate could not be verified",
        ("CERTIFICATE_VERIFY_FAILED", "SSL: WRONG_VERSION_NUMBER"),
        "name your proxy's certificates with `env: {SSL_CERT_FILE: …, REQUESTS_CA_BUNDLE: …}`",
    ),
    Cause(
        "the hub refuses more requests for now",
        ("429 Client Error", "Too Many Requests for url"),
        "wait some minutes, set `env: {HF_TOKEN: …}`, or download the model first (`router pull`)",
    ),
    Cause(
        "the model is not on this machine and the hub could not be reached",
        (
            "outgoing traffic has been disabled",
            "offline mode is enabled",
            "we cannot find the requested files in the local cache",
            "We couldn't connect to 'https://",
            "LocalEntryNotFoundError",
        ),
        "download the model first (`router pull`), or let the engine reach the hub: no HF_HUB_OFFLINE in `env`, a "
        "mirror as `env: {HF_ENDPOINT: …}`, a proxy as `env: {HTTPS_PROXY: …}`",
    ),
    Cause(
        "the hub's name or address could not be reached",
        (
            "Temporary failure in name resolution",
            "Name or service not known",
            "Max retries exceeded with url",
            "Network is unreachable",
            "ProxyError",
            "HTTPLIB failed: Could not establish connection",
        ),
        "check this machine's network, or download the model first (`router pull`); a mirror is `env: "
        "{HF_ENDPOINT: …}`, a proxy `env: {HTTPS_PROXY: …}`",
        secondary=True,
    ),
    Cause(
        "the hub refused the engine's token, or wants one",
        ("401 Client Error", "403 Client Error", "Invalid user token", "Invalid username or password"),
        'hand over a valid token: `env: {HF_TOKEN: "${HF_TOKEN}"}`',
        secondary=True,
    ),
    Cause(
        "the model's file is not there",
        (
            "failed to open GGUF file…(No such file or directory)",
            "Model path does not exist",
            "xllamacpp_server: no such file",
        ),
        "correct the path in the file; relative ones start at the folder of the router's file",
    ),
    Cause(
        "a file of the model is damaged or incomplete",
        (
            "Error while deserializing header",
            "invalid magic characters",
            "is not within the file bounds",
            "failed to read key-value pairs",
            "failed to read tensor info",
            "PytorchStreamReader failed",
            "invalid load key",
        ),
        "download the model again, whole; a file of a few hundred bytes is a pointer of git-lfs (`git lfs pull`)",
    ),
    Cause(
        "the folder or repository holds no weights that the engine can read",
        ("Cannot find any model weights with", "no file named model.safetensors", "no file named pytorch_model.bin"),
        "look whether the download is complete; a .gguf file is for `engine: llamacpp`",
    ),
    Cause(
        "the folder or repository holds no model in a form that the engine knows",
        (
            "Invalid repository ID or local directory specified",
            "does not appear to have a file named config.json",
            "Should have a `model_type` key in its config.json",
            "No such file or directory: '…config.json'",
        ),
        "give one with a config.json; a .gguf file is for `engine: llamacpp`",
    ),
    Cause(
        "this version of the engine does not know the model's architecture",
        (
            "Model architectures…are not supported",
            "does not recognize this architecture",
            "unknown model architecture",
            "unknown pre-tokenizer type",
            "unknown projector type",
            "Unrecognized configuration class",
        ),
        "take a newer version of the engine and name it with `environment`, or another model",
    ),
    Cause(
        "the model's file does not fit this version of the engine",
        (
            "error loading model: missing tensor",
            "wrong number of tensors; expected",
            "error loading model: done_getting",
        ),
        "convert or download the model anew, or take a newer version of the engine and name it with `environment`",
    ),
    Cause(
        "the model brings Python code of its own, which it may not run",
        (
            "contains custom code which must be executed",
            "requires you to execute the configuration file",
            "requires you to execute the tokenizer file",
            "Please pass the argument `trust_remote_code=True`",
        ),
        "if you trust the model, allow it",
        {
            "vllm": "if you trust the model, set `options.trust_remote_code: true`",
            "infinity": "if you trust the model, set `options.trust_remote_code: true`",
        },
    ),
    Cause(
        "the model's tokenizer cannot be loaded",
        (
            "Couldn't instantiate the backend tokenizer",
            "You need to have sentencepiece",
            "Can't load tokenizer for",
            "Failed to load the tokenizer",
        ),
        "look whether tokenizer.json and tokenizer_config.json came with the model; older ones need sentencepiece or "
        "tiktoken in the engine's environment",
    ),
    Cause(
        "the engine does not support the model's quantisation",
        (
            "Unknown quantization method",
            "Unknown quantization type",
            "has invalid ggml type",
            "is not supported for quantization method",
            "does not match the quantization method specified",
        ),
        "take the model in another quantisation, or a newer version of the engine",
        {
            "vllm": "take `options.quantization` and `options.dtype` out, or the model in another quantisation (awq, "
            "gptq, fp8)"
        },
    ),
    Cause(
        "the context length is more than the model was made for",
        ("is greater than the derived max_model_len",),
        "shorten it",
        {"vllm": "lower `options.max_model_len`, or leave it out for the model's own"},
    ),
    Cause(
        "the batch is smaller than the context length",
        ("max_num_batched_tokens (…is smaller than max_model_len",),
        "make it larger, or the context shorter",
        {"vllm": "raise `options.max_num_batched_tokens` to `options.max_model_len` or more, or leave it out"},
    ),
    Cause(
        "the chat template cannot be used",
        (
            "The supplied chat template",
            'error while handling argument "--chat-template',
            "failed to initialize chat template",
            "the supplied chat template is not supported",
        ),
        "correct the path or the template",
        {
            "vllm": "correct `options.chat_template`, or leave it out for the model's own",
            "llamacpp": "correct `options.chat_template`, leave it out for the model's own, or set `options.jinja`",
        },
    ),
    Cause(
        "the engine has no such parser",
        ("invalid tool call parser", "invalid reasoning parser"),
        "take one of those that the log names",
        {"vllm": "set `options.tool_call_parser` or `options.reasoning_parser` to one of those that the log names"},
    ),
    Cause(
        "the file of `mmproj` cannot be used",
        ("failed to load multimodal model", "Failed to load CLIP model from"),
        "take the projector that was made with this model",
        {"llamacpp": "name in `options.mmproj` the projector that was made with this model"},
    ),
    Cause(
        "a LoRA adapter cannot be used with this model",
        ("failed to apply lora adapter", "failed to load lora adapter", "LoRA rank…is greater than max_lora_rank"),
        "look whether it was made for this model, and its path",
        {"llamacpp": "look in `options.lora` for its path, and whether it was made for this model"},
    ),
)

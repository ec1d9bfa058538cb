"""The options of the vLLM launcher."""

from typing import Annotated, Literal

import msgspec

Meta = msgspec.Meta
Size = Annotated[int, Meta(ge=1)]


class VllmOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of vLLM. What is not set is left to vLLM; any other flag of `vllm serve` goes into `args`."""

    tensor_parallel_size: Annotated[
        Size | None,
        Meta(description="GPUs that share each layer. Not set: the model's GPUs over the other parallel sizes."),
    ] = None
    pipeline_parallel_size: Annotated[
        Size | None, Meta(description="Groups of GPUs that the layers are dealt out to, one after the other.")
    ] = None
    data_parallel_size: Annotated[
        Size | None, Meta(description="Copies of the attention layers inside one engine (mixture-of-experts models).")
    ] = None
    gpu_memory_utilization: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="Share of each GPU's total memory (0 to 1) that vLLM claims, whatever the model needs."),
    ] = None
    kv_cache_memory_bytes: Annotated[
        Size | None,
        Meta(description="Memory for the KV cache in bytes a GPU (or of the host); overrides gpu_memory_utilization."),
    ] = None
    max_model_len: Annotated[
        Size | None, Meta(description="Context length in tokens, prompt and answer together. Not set: the model's own.")
    ] = None
    max_num_seqs: Annotated[Size | None, Meta(description="Requests that are computed at the same time.")] = None
    max_num_batched_tokens: Annotated[
        Size | None, Meta(description="Tokens computed in one step; more favours throughput, less favours latency.")
    ] = None
    max_num_queued_reqs: Annotated[
        Size | None, Meta(description="Requests that may wait inside vLLM; the next one is answered with 503.")
    ] = None
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"] | None,
        Meta(description="Number format of weights and activations."),
    ] = None
    quantization: Annotated[
        str | None, Meta(description="How the weights are quantised (awq, gptq, fp8, …). Not set: what the model says.")
    ] = None
    kv_cache_dtype: Annotated[
        str | None, Meta(description="Number format of the KV cache (auto, fp8, …); fp8 halves its memory.")
    ] = None
    enable_prefix_caching: Annotated[
        bool | None, Meta(description="Reuse the KV cache of a prompt's beginning that was seen before.")
    ] = None
    enforce_eager: Annotated[
        bool | None, Meta(description="Skip compilation and CUDA graphs: starts sooner, generates slower.")
    ] = None
    tool_call_parser: Annotated[
        str | None, Meta(description="Parser of the model's tool calls (hermes, llama3_json, …); turns tool choice on.")
    ] = None
    reasoning_parser: Annotated[
        str | None, Meta(description="Parser that separates the model's reasoning from its answer (qwen3, …).")
    ] = None
    chat_template: Annotated[
        str | None, Meta(description="File with a Jinja chat template to use in place of the model's own.")
    ] = None
    trust_remote_code: Annotated[
        bool | None, Meta(description="Run Python code that comes with the model. Only for models you trust.")
    ] = None
    load_format: Annotated[
        str | None, Meta(description="How the weights are read (auto, safetensors, runai_streamer, dummy, …).")
    ] = None
    cpu_offload_gb: Annotated[
        Annotated[float, Meta(ge=0)] | None, Meta(description="Weights to keep in the host's memory, in GiB a GPU.")
    ] = None
    max_loras: Annotated[
        Size | None, Meta(description="LoRA adapters that one batch may mix; for models with `lora`. vLLM's own: 1.")
    ] = None
    max_cpu_loras: Annotated[
        Size | None,
        Meta(description="LoRA adapters kept in the host's memory. Not set: as many as max_loras."),
    ] = None
    max_lora_rank: Annotated[
        Size | None, Meta(description="The largest rank of the model's LoRA adapters. vLLM's own: 16.")
    ] = None
    distributed_executor_backend: Annotated[
        Literal["mp", "ray", "uni"] | None,
        Meta(description="How workers are started; ray spreads one model over several machines, uni is one process."),
    ] = None
    shutdown_timeout: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Seconds that running requests may finish in after SIGTERM. vLLM's own default aborts them."),
    ] = None
    responses_store: Annotated[
        bool,
        Meta(
            description="Keep the answers of /v1/responses, for previous_response_id, background and reading them "
            "again. vLLM never forgets one, so its memory grows."
        ),
    ] = False
    omni: Annotated[
        bool,
        Meta(
            description="Serve a chat model by vLLM-Omni (models that speak or draw). The kinds image, speech and "
            "video always are. The engine's environment needs the distribution vllm-omni, which `router install` does "
            "not bring: name one that has it with `environment:`."
        ),
    ] = False
    sleep: Annotated[
        bool, Meta(description="Let the router put the idle engine to sleep: its GPU memory is freed, waking is fast.")
    ] = False

"""The options of the SGLang launcher."""

from typing import Annotated, Literal

import msgspec

Meta = msgspec.Meta
Size = Annotated[int, Meta(ge=1)]


class SglangOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of SGLang. What is not set is left to SGLang; any other flag of `sglang serve` goes into `args`."""

    tensor_parallel_size: Annotated[
        Size | None,
        Meta(description="GPUs that share each layer. Not set: the model's GPUs over the other parallel sizes."),
    ] = None
    pipeline_parallel_size: Annotated[
        Size | None, Meta(description="Groups of GPUs that the layers are dealt out to, one after the other.")
    ] = None
    data_parallel_size: Annotated[
        Size | None, Meta(description="Whole copies of the model inside one engine; requests are shared out.")
    ] = None
    expert_parallel_size: Annotated[
        Size | None, Meta(description="Parts that the experts of a mixture-of-experts model are dealt out to.")
    ] = None
    mem_fraction_static: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="Share of each GPU's memory (0 to 1) for weights and KV cache; less if it runs out."),
    ] = None
    context_length: Annotated[
        Size | None, Meta(description="Context length in tokens, prompt and answer together. Not set: the model's own.")
    ] = None
    max_running_requests: Annotated[Size | None, Meta(description="Requests that are computed at the same time.")] = (
        None
    )
    max_queued_requests: Annotated[
        Size | None, Meta(description="Requests that may wait inside SGLang; the next one is refused.")
    ] = None
    max_total_tokens: Annotated[
        Size | None, Meta(description="Tokens in the KV cache; overrides what mem_fraction_static leaves for it.")
    ] = None
    chunked_prefill_size: Annotated[
        int | None, Meta(description="Prompt tokens computed in one step; -1 takes prompts whole (embedding models).")
    ] = None
    schedule_policy: Annotated[
        Literal["lpm", "random", "fcfs", "dfs-weight", "lof", "priority"] | None,
        Meta(description="Which waiting request is next: fcfs is by arrival, lpm by the longest prefix in the cache."),
    ] = None
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"] | None,
        Meta(description="Number format of weights and activations."),
    ] = None
    quantization: Annotated[
        str | None, Meta(description="How the weights are quantised (awq, gptq, fp8, …). Not set: what the model says.")
    ] = None
    kv_cache_dtype: Annotated[
        str | None, Meta(description="Number format of the KV cache (auto, fp8_e5m2, …); fp8 halves its memory.")
    ] = None
    attention_backend: Annotated[
        str | None,
        Meta(description="What computes attention (flashinfer, fa3, triton, …). Not set: the fastest there."),
    ] = None
    device: Annotated[
        Literal["cuda", "hip", "xpu", "npu", "cpu"] | None,
        Meta(description="Where the model runs. Not set: what SGLang finds; cpu for a model without GPUs."),
    ] = None
    radix_cache: Annotated[
        bool, Meta(description="Reuse the KV cache of a prompt's beginning that was seen before.")
    ] = True
    cuda_graph: Annotated[
        bool, Meta(description="Capture CUDA graphs: without them it starts sooner and generates slower.")
    ] = True
    tool_call_parser: Annotated[
        str | None, Meta(description="Parser of the model's tool calls (qwen, llama3, deepseekv3, …).")
    ] = None
    reasoning_parser: Annotated[
        str | None, Meta(description="Parser that separates the model's reasoning from its answer (qwen3, …).")
    ] = None
    chat_template: Annotated[
        str | None,
        Meta(description="Name of a chat template of SGLang's, or a file with one, in place of the model's."),
    ] = None
    embedding: Annotated[
        bool | None,
        Meta(
            description="Run the model for vectors and scores rather than text. Not set: for the kinds embedding and "
            "rerank. Rerankers that answer yes or no in words, as Qwen3-Reranker, need false."
        ),
    ] = None
    load_format: Annotated[
        str | None, Meta(description="How the weights are read (auto, safetensors, gguf, dummy, …).")
    ] = None
    revision: Annotated[str | None, Meta(description="Branch, tag or commit of the model's repository.")] = None
    trust_remote_code: Annotated[
        bool, Meta(description="Run Python code that comes with the model. Only for models you trust.")
    ] = False
    cpu_offload_gb: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="Weights to keep in the host's memory, in GiB a GPU.")
    ] = None
    max_loras_per_batch: Annotated[
        Size | None, Meta(description="LoRA adapters that one batch may mix, the bare model counted; for `lora`.")
    ] = None
    max_loaded_loras: Annotated[
        Size | None, Meta(description="LoRA adapters kept in the host's memory, no fewer than max_loras_per_batch.")
    ] = None
    max_lora_rank: Annotated[
        Size | None, Meta(description="The largest rank of the model's LoRA adapters. Not set: what they have.")
    ] = None
    responses_store: Annotated[
        bool,
        Meta(
            description="Keep the answers of /v1/responses, for previous_response_id, background and reading them "
            "again. SGLang never forgets one, so its memory grows."
        ),
    ] = False

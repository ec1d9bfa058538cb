"""The options of the llama.cpp launcher, for all of its forms."""

from typing import Annotated, Literal

import msgspec

Meta = msgspec.Meta
Size = Annotated[int, Meta(ge=1)]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


class LlamaCppOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of llama.cpp. What is not set is left to llama.cpp; any other flag of its server goes into `args`."""

    form: Annotated[
        Literal["auto", "server", "python", "xllamacpp"],
        Meta(
            description="Which llama.cpp: server (the llama-server program), xllamacpp (the same server out of the "
            "xllamacpp wheel), python (llama-cpp-python, one request at a time), or auto, the first found of server, "
            "xllamacpp, python."
        ),
    ] = "auto"
    context: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(
            description="Context in tokens for all slots together: with 4 slots each gets a quarter. 0 is the model's "
            "own. Not set: the model's own, but 2048 in the python form."
        ),
    ] = None
    slots: Annotated[Size | None, Meta(description="Requests that are computed at the same time.")] = None
    gpu_layers: Annotated[
        Annotated[int, Meta(ge=0)] | Literal["auto", "all"] | None,
        Meta(description="Layers to keep on GPUs: a number, all, or auto (as many as fit)."),
    ] = None
    split_mode: Annotated[
        Literal["none", "layer", "row"] | None, Meta(description="How a model is split over several GPUs.")
    ] = None
    tensor_split: Annotated[
        list[Annotated[float, Meta(ge=0)]] | None,
        Meta(description="Share of the model for each of its GPUs, in their order, for example [3, 1]."),
    ] = None
    main_gpu: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="The GPU that holds what is not split, counted from 0 among the model's own GPUs."),
    ] = None
    flash_attention: Annotated[
        bool | Literal["auto"] | None, Meta(description="Flash attention: true, false or auto.")
    ] = None
    cache_type_k: Annotated[CacheType | None, Meta(description="Number format of the KV cache's keys.")] = None
    cache_type_v: Annotated[
        CacheType | None,
        Meta(description="Number format of the KV cache's values; below f16 it needs flash attention."),
    ] = None
    batch: Annotated[Size | None, Meta(description="Prompt tokens handed to the model in one batch.")] = None
    ubatch: Annotated[
        Size | None,
        Meta(description="Tokens computed in one step. An embedding or rerank input cannot be longer than this."),
    ] = None
    threads: Annotated[Size | None, Meta(description="CPU threads that compute.")] = None
    pooling: Annotated[
        Literal["none", "mean", "cls", "last", "rank"] | None,
        Meta(description="How an embedding model's token vectors become one vector. Not set: what the model says."),
    ] = None
    jinja: Annotated[bool | None, Meta(description="Use the model's Jinja chat template (tool calls need it).")] = None
    chat_template: Annotated[
        str | None, Meta(description="File with a Jinja chat template to use in place of the model's own.")
    ] = None
    reasoning_format: Annotated[
        Literal["none", "auto", "deepseek", "deepseek-legacy"] | None,
        Meta(
            description="Where the model's reasoning goes: none leaves it in the text, deepseek in reasoning_content."
        ),
    ] = None
    lora: Annotated[list[str] | None, Meta(description="Files of LoRA adapters (GGUF) to apply.")] = None
    lora_on_request: Annotated[
        bool | None,
        Meta(
            description="Apply an adapter of `lora` only where a request asks for it. An alias makes one a public "
            "name: `aliases: {my-adapter: {set: {lora: [{id: 0, scale: 1}]}}}`, where id counts the files from 0. "
            "Prompts are then computed anew each time, since llama.cpp mixes up what its adapters have computed."
        ),
    ] = None
    mmproj: Annotated[
        str | None, Meta(description="File of the multimodal projector, for models that take images or sound.")
    ] = None

"""Causes that lie with GPUs: their memory, their driver, and how they work together."""

from router.fleet.diagnosis.cause import Cause

SHM_FULL = Cause(
    "the shared memory in /dev/shm is too small",
    (
        "Error while creating shared memory segment",
        "posix_fallocate failed…No space left on device",
        "insufficient shared memory (shm)",
        "unable to allocate shared memory(shm)",
        "Bus error",
    ),
    "enlarge /dev/shm: `mount -o remount,size=16G /dev/shm`, in a container `--shm-size 16g` or `--ipc host`",
)

CAUSES = (
    Cause(
        "other programs hold too much of the GPU's memory",
        (
            "Free memory on device…is less than desired GPU memory utilization",
            "Free memory on device…is less than the engine's budget",
        ),
        "end what else runs on the GPU (`nvidia-smi` shows it), or let this model claim less of it",
        {
            "vllm": "end what else runs on the GPU (`nvidia-smi` shows it), or lower `options.gpu_memory_utilization`: "
            "it is a share of the whole GPU"
        },
    ),
    Cause(
        "the model's weights leave no memory for the KV cache",
        ("No available memory for the cache blocks",),
        "let it claim more memory, or give it more GPUs",
        {
            "vllm": "raise `options.gpu_memory_utilization` (or `options.kv_cache_memory_bytes`), or give the model "
            "more `gpus`"
        },
    ),
    Cause(
        "the context length does not fit into the memory for the KV cache",
        (
            "To serve at least one request with the model",
            "max seq len (…is larger than the maximum number of tokens that can be stored in KV cache",
        ),
        "shorten the context, or let it claim more memory",
        {
            "vllm": "lower `options.max_model_len` (the log may say to what), set `options.kv_cache_dtype: fp8`, or "
            "raise `options.gpu_memory_utilization`"
        },
    ),
    Cause(
        "GPU memory was not enough for the model",
        (
            "CUDA out of memory",
            "CUDA error: out of memory",
            "cudaMalloc failed: out of memory",
            "HIP out of memory",
            "OutOfMemoryError: Allocation on device",
            "ErrorOutOfDeviceMemory",
            "unable to allocate CUDA",
        ),
        "give it more GPUs or one with more memory, or a smaller or quantised model",
        {
            "vllm": "lower `options.max_model_len` or `options.max_num_seqs`, give the model more `gpus`, or take a "
            "quantised one; beside other models also lower `options.gpu_memory_utilization`",
            "llamacpp": "lower `options.context` or `options.gpu_layers`, give the model more `gpus`, or take a "
            "smaller quantisation",
            "infinity": "lower `options.batch_size`, set `options.dtype: float16`, or give the model another of "
            "the `gpus`",
            "sglang": "lower `options.mem_fraction_static`, `options.max_running_requests` or "
            "`options.chunked_prefill_size`, or give the model more `gpus`",
            "lmdeploy": "lower `options.cache_max_entry_count` or `options.session_len`, set `options.quant_policy: "
            "int8`, or give the model more `gpus`",
            "trtllm": "lower `options.free_gpu_memory_fraction`, `options.max_batch_size` or `options.max_seq_len`, or "
            "give the model more `gpus`",
            "transformers": "set `options.dtype: bfloat16` or `options.quantization`, with continuous batching lower "
            "`options.cb_max_memory_percent`, or give the model more `gpus`",
            "tei": "lower `options.max_batch_tokens`, or set `options.dtype: float16`",
            "mlx": "lower `options.decode_concurrency`, set `options.kv_bits: 8`, or take a quantised model",
            "ollama": "lower `options.context_length` or `options.num_parallel`, or take a smaller quantisation",
            "speaches": "set `options.compute_type: int8`, lower `options.num_workers`, or take a smaller model",
        },
    ),
    Cause(
        "the NVIDIA driver is too old for this build of the engine",
        (
            "The NVIDIA driver on your system is too old",
            "CUDA driver version is insufficient for CUDA runtime version",
            "system has unsupported display driver / cuda driver combination",
            "forward compatibility was attempted on non supported HW",
        ),
        "update the driver, or name with `environment` a build of the engine for the CUDA version that "
        "`nvidia-smi` shows",
    ),
    Cause(
        "this build of the engine has no code for this GPU",
        (
            "no kernel image is available for execution on the device",
            "is not compatible with the current PyTorch installation",
            "the provided PTX was compiled with an unsupported toolchain",
        ),
        "install a build of the engine for this generation of GPUs and name it with `environment`",
        {"llamacpp": "build it here: `CMAKE_ARGS=-DGGML_CUDA=ON router install llamacpp --form server`"},
    ),
    Cause(
        "the GPU cannot compute in bfloat16",
        ("Bfloat16 is only supported on GPUs",),
        "choose float16",
        {"vllm": "set `options.dtype: float16`", "infinity": "set `options.dtype: float16`"},
    ),
    Cause(
        "the GPU does not support the model's quantisation",
        ("is not supported for the current GPU", "doesn't support quantization method"),
        "take the model in another quantisation, or give it a newer GPU",
    ),
    Cause(
        "a library of CUDA or of its driver is missing",
        (
            "libcuda.so…cannot open shared object file",
            "libcudart.so…cannot open shared object file",
            "libnvrtc…cannot open shared object file",
            "libcublas…cannot open shared object file",
            "Found no NVIDIA driver on your system",
        ),
        "install the NVIDIA driver (in a container: its runtime, `--gpus all`), or an engine for the CPU (`router "
        "install … --cpu`)",
        warned=True,
    ),
    Cause(
        "this build of the engine cannot use GPUs",
        ("Torch not compiled with CUDA enabled", 'error while handling argument "--device": invalid device'),
        "install the engine without `--cpu`, or write `gpus: none`",
        {
            "llamacpp": "build it with CUDA (`CMAKE_ARGS=-DGGML_CUDA=ON router install llamacpp --form server`), or "
            "write `gpus: none`"
        },
    ),
    Cause(
        "the engine sees no GPU",
        ("No CUDA GPUs are available", "no CUDA-capable device is detected", "Failed to infer device type"),
        "see whether `nvidia-smi` works here, and `gpus` and `CUDA_VISIBLE_DEVICES` in `env`; without GPUs install the "
        "engine with `--cpu`",
        secondary=True,
    ),
    Cause(
        "the engine wants more GPUs than it sees",
        (
            "World size (…is larger than the number of available GPUs",
            "must be less than or equal to the number of visible devices",
            "CUDA error: invalid device ordinal",
        ),
        "give the model as many `gpus` as its parallel sizes need",
        {
            "vllm": "give the model as many `gpus` as `options.tensor_parallel_size` times the other parallel sizes",
            "llamacpp": "let `options.main_gpu` and `options.tensor_split` name no more GPUs than `gpus` has",
        },
    ),
    Cause(
        "the model cannot be divided among this many GPUs",
        (
            "attention heads (…must be divisible by tensor parallel size",
            "is not divisible by weight quantization block_n",
        ),
        "give it another number of GPUs: 1, 2, 4 or 8",
        {
            "vllm": "choose another number of `gpus` (often 1, 2, 4 or 8), or set `options.pipeline_parallel_size` to "
            "it and `options.tensor_parallel_size: 1`"
        },
    ),
    Cause(
        "the GPU reports a fault of its hardware",
        ("uncorrectable ECC error", "GPU is lost", "GPU has fallen off the bus"),
        "see `nvidia-smi -q` and the system's log (`dmesg`, Xid); reset the GPU or reboot, or leave it out of `gpus`",
    ),
    Cause(
        "the GPUs cannot reach each other's memory",
        ("peer access is not supported between these two devices",),
        "turn the engine's use of it off",
        {"vllm": 'add `args: ["--disable-custom-all-reduce"]`'},
    ),
    SHM_FULL,
    Cause(
        "the engine's processes on several GPUs could not talk to each other (NCCL)",
        ("NCCL error", "ncclSystemError", "ncclUnhandledCudaError", "ncclInternalError", "DistBackendError"),
        "set `env: {NCCL_DEBUG: INFO}` and read the log; often /dev/shm is too small or the GPUs cannot reach each "
        "other (`env: {NCCL_P2P_DISABLE: 1}`)",
        secondary=True,
    ),
    Cause(
        "a computation on the GPU failed",
        (
            "an illegal memory access was encountered",
            "device-side assert triggered",
            "unspecified launch failure",
            "CUBLAS_STATUS_",
        ),
        "if it comes again, take another version of the engine or another number format of the model; see `dmesg` for "
        "faults of the GPU (Xid)",
        secondary=True,
    ),
)

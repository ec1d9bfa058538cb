"""Causes that lie with the machine and the engine's installation."""

from router.fleet.diagnosis.cause import Cause

PORT_TAKEN = Cause(
    "another program listens on the engine's port",
    ("Address already in use", "address already in use", "couldn't bind HTTP server socket"),
    "take a port out of `args`, if one is there; the router chooses another at each start",
)
DISK_FULL = Cause(
    "the disk is full",
    ("No space left on device", "Not enough free disk space to download the file", "Disk quota exceeded"),
    "make room, or have the model kept elsewhere: `env: {HF_HOME: /large/disk}`",
)

CAUSES = (
    PORT_TAKEN,
    DISK_FULL,
    Cause(
        "the machine's memory is less than the engine wants to reserve",
        ("Available memory on node",),
        "let it reserve less",
        {
            "vllm": "set `options.kv_cache_memory_bytes` (4294967296 is 4 GiB), or lower "
            "`options.gpu_memory_utilization`, which on a CPU is a share of the machine's memory"
        },
    ),
    Cause(
        "the machine's memory was not enough",
        (
            "Cannot allocate memory",
            "insufficient memory (attempted to allocate",
            "std::bad_alloc",
            "DefaultCPUAllocator: can't allocate memory",
            "DefaultCPUAllocator: not enough memory",
            "unable to allocate CPU buffer",
            "MemoryError",
        ),
        "free memory, or take a smaller model",
        {
            "llamacpp": "lower `options.context` or `options.slots`, or take a smaller quantisation",
            "vllm": "lower `options.max_model_len` or `options.kv_cache_memory_bytes`, or take a smaller model",
            "infinity": "lower `options.batch_size`, set `options.dtype`, or take a smaller model",
        },
    ),
    Cause(
        "memory was not enough for the context",
        ("failed to allocate buffer for kv cache", "failed to allocate compute", "Failed to create llama_context"),
        "shorten the context",
        {"llamacpp": "lower `options.context` or `options.slots`, or set `options.cache_type_k: q8_0`"},
        secondary=True,
    ),
    Cause(
        "the engine may not open more files",
        ("Too many open files",),
        "raise the limit before the router starts: `ulimit -n 65536`, or LimitNOFILE in its systemd unit",
    ),
    Cause(
        "the engine may not start more threads or processes",
        (
            "can't start new thread",
            "fork: Resource temporarily unavailable",
            "pthread_create…Resource temporarily unavailable",
        ),
        "raise the limit before the router starts: `ulimit -u`, TasksMax in its systemd unit, `--pids-limit` of its "
        "container; or set `env: {OMP_NUM_THREADS: 8}`",
    ),
    Cause(
        "the engine may not write where it wants to",
        ("Read-only file system",),
        "give it a folder of its own for what it downloads and compiles: `env: {HF_HOME: …, XDG_CACHE_HOME: …}`",
    ),
    Cause(
        "the engine does not take one of its flags",
        (
            "error: unrecognized arguments",
            "error: invalid argument:",
            "error while handling argument",
            "error: argument ",
            "No such option",
        ),
        "correct `args`; without any, the installed version of the engine is not one that this router knows: name "
        "another with `environment`",
    ),
    Cause(
        "the system's C library is older than the engine needs",
        ("GLIBC_…not found", "GLIBCXX_…not found", "CXXABI_…not found"),
        "run the engine in a newer system or a container, or install a build of it that was made for this system",
        warned=True,
    ),
    Cause(
        "the engine compiles at its start, and finds no C compiler or no headers of Python",
        (
            "Failed to find C compiler",
            "fatal error: Python.h: No such file or directory",
            "InvalidCxxCompiler",
            "No working C++ compiler found",
        ),
        "install them (Debian and Ubuntu: `apt install gcc g++ python3-dev`)",
        {
            "vllm": "install them (Debian and Ubuntu: `apt install gcc g++ python3-dev`), or set "
            "`options.enforce_eager: true`"
        },
    ),
    Cause(
        "the engine compiles at its start, and finds no ninja",
        ("No such file or directory: 'ninja'", "Ninja is required to load C++ extensions"),
        "install it into the engine's environment (`pip install ninja`)",
    ),
    Cause(
        "the engine compiles at its start, and finds no CUDA toolkit",
        (
            "Could not find nvcc",
            "CUDA_HOME environment variable is not set",
            "nvcc: not found",
            "No such file or directory: 'nvcc'",
        ),
        "install the CUDA toolkit and set `env: {CUDA_HOME: /usr/local/cuda}`",
        {
            "vllm": "install the CUDA toolkit and set `env: {CUDA_HOME: /usr/local/cuda}`, or do without: `env: "
            "{VLLM_USE_FLASHINFER_SAMPLER: 0}`"
        },
    ),
    Cause(
        "the packages of the engine's environment do not fit together",
        ("undefined symbol: ", "ImportError: cannot import name", "VersionConflict"),
        "install the engine anew (`router install`), and leave out what was added to its environment",
    ),
    Cause(
        "a package is missing from the engine's environment",
        (
            "No module named",
            "PackageNotFoundError",
            "requires the following packages that were not found in your environment",
            "ImportError: …is not available. install via",
        ),
        "install it into the engine's environment, or the engine anew (`router install`)",
        secondary=True,
    ),
    Cause(
        "a shared library is missing",
        ("cannot open shared object file",),
        "install the system's package that holds it",
        secondary=True,
    ),
    Cause(
        "the processor lacks instructions that the engine was built with",
        ("Illegal instruction",),
        "build the engine on this machine",
        {"llamacpp": "build it here (`router install llamacpp --form server`) and set `options.form: server`"},
    ),
    Cause(
        "the engine may not read or write a file",
        ("Permission denied",),
        "give the user of the router the right to it (the log names it)",
        secondary=True,
    ),
    Cause(
        "the program was not found",
        (": command not found", "Exec format error"),
        "give its whole path, and look whether it is made for this machine",
        secondary=True,
    ),
    Cause(
        "a file is missing",
        ("FileNotFoundError: ", "failed to open…No such file or directory", "can't open file"),
        "the log names it; relative paths start at the folder of the router's file",
        secondary=True,
    ),
    Cause(
        "the engine ran into a fault of its own",
        ("GGML_ASSERT", "terminate called after throwing", "Fatal Python error", "Segmentation fault"),
        "take another version of the engine, or leave out `options` and `args` one by one; its log may name the place",
        secondary=True,
    ),
)

"""What an engine's exit and the system's facts say about why it failed."""

import signal

from router.fleet.diagnosis.cause import Cause
from router.fleet.diagnosis.gpu import SHM_FULL
from router.fleet.diagnosis.host import DISK_FULL, PORT_TAKEN
from router.fleet.diagnosis.text import evidence
from router.fleet.diagnosis.values import Death, Diagnosis

LITTLE = 16 * 2**20
"""Bytes below which a disk or /dev/shm is as good as full."""
LAST_LINES = 20
"""Lines at a log's end that tell what an engine was doing."""

OUT_OF_MEMORY = Cause(
    "the system killed it for want of memory",
    (),
    "give the machine or the container more memory, or the model less to do",
    {
        "vllm": "give the machine or the container more memory, or lower `options.cpu_offload_gb`, "
        "`options.kv_cache_memory_bytes` (on a CPU) or the number of models that start at once",
        "llamacpp": "give the machine or the container more memory, lower `options.context`, or take a smaller "
        "quantisation",
        "infinity": "give the machine or the container more memory, or lower `options.batch_size`",
    },
)
_SIGNALS = {
    signal.SIGILL: Cause(
        "the processor lacks instructions that the engine was built with",
        (),
        "build the engine on this machine",
        {"llamacpp": "build it here (`router install llamacpp --form server`) and set `options.form: server`"},
    ),
    signal.SIGSEGV: Cause(
        "the engine crashed (segmentation fault)",
        (),
        "take another version of the engine, look whether the model's files are whole, and leave out `options` and "
        "`args` one by one",
    ),
    signal.SIGABRT: Cause(
        "the engine gave up over a fault of its own (abort)",
        (),
        "its log may say which; take another version of the engine, or leave out `options` and `args` one by one",
    ),
    signal.SIGKILL: Cause(
        "somebody killed it (SIGKILL)",
        (),
        "see the system's log (`dmesg`, `journalctl -k`): it may have been for memory, or a limit of a container",
    ),
}
_DOING = (
    (
        ("B/s", "Fetching ", "Downloading "),
        "it was still downloading the model",
        "raise `start_timeout`, or download the model first (`router pull`); what was downloaded so far is kept",
    ),
    (
        (
            "Loading safetensors checkpoint shards",
            "load_tensors: loading model tensors",
            "Loading pt checkpoint shards",
        ),
        "it was still loading the weights",
        "raise `start_timeout`, or put the model on a faster disk",
    ),
    (
        ("torch.compile", "Capturing CUDA graph", "Dynamo bytecode transform", "warm up", "warmup", "warming up"),
        "it was still compiling and warming up",
        "raise `start_timeout`",
    ),
)


def killed_for_memory(death: Death) -> Diagnosis | None:
    """The engine itself: its log cannot know."""
    return _out_of_memory(death) if _signal(death) == signal.SIGKILL else None


def _out_of_memory(death: Death) -> Diagnosis | None:
    count = death.facts.oom_kills
    if not count:
        return None
    shown = f"the kernel's out-of-memory killer ended {count} process{'es' if count > 1 else ''} during this run"
    return _told(OUT_OF_MEMORY, death, shown)


def by_facts(death: Death) -> Diagnosis | None:
    """Where the log shows no clear reason. One of the engine's processes may have been killed rather than itself."""
    facts = death.facts
    if found := _out_of_memory(death):
        return found
    if _signal(death) == signal.SIGBUS:
        free = "" if facts.shm_free is None else f"; /dev/shm has {facts.shm_free // 2**20} MiB left"
        return _told(SHM_FULL, death, f"killed by SIGBUS{free}")
    if facts.port_taken_by is not None:
        return _told(PORT_TAKEN, death, f"{facts.port_taken_by} listens on it")
    if facts.disk_free is not None and facts.disk_free < LITTLE:
        return _told(DISK_FULL, death, f"{facts.disk_free // 2**20} MiB are free where the engine keeps its downloads")
    return None


def by_signal(death: Death) -> Diagnosis | None:
    number = _signal(death)
    cause = _SIGNALS.get(number) if number else None
    return _told(cause, death, f"killed by {number.name}") if number and cause else None


def _signal(death: Death) -> signal.Signals | None:
    """What killed it, unless the router did. Of a program that a shell ran, the shell says 128 and the signal."""
    if death.exit is None or death.waited is not None:
        return None
    number = -death.exit if death.exit < 0 else death.exit - 128
    return signal.Signals(number) if number < signal.SIGRTMIN and number in signal.valid_signals() else None


def by_waiting(death: Death, text: str) -> Diagnosis | None:
    """The router gave up waiting: what it was doing is what it printed last."""
    if death.waited is None:
        return None
    for line in reversed(text.rstrip("\n").splitlines()[-LAST_LINES:]):
        for signs, cause, remedy in _DOING:
            if any(sign in line for sign in signs):
                shown = evidence(line, 0, 0, len(line))
                return Diagnosis(f"not ready within `start_timeout`: {cause}", shown, remedy)
    shown = f"no answer to its probe within {death.waited:g} s"
    return Diagnosis("not ready within `start_timeout`", shown, "see its log; raise `start_timeout` if it was at work")


def _told(cause: Cause, death: Death, shown: str) -> Diagnosis:
    return Diagnosis(cause.cause, shown, cause.remedy_for(death.engine))

"""What is made of a failed engine: from real logs, exits and facts to a cause."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from launchers import LAUNCHERS
from launchers.llamacpp_options import LlamaCppOptions
from router.fleet.diagnosis import Death, Facts
from router.fleet.diagnosis.cause import Cause
from router.fleet.diagnosis.diagnose import TABLE, diagnose
from router.fleet.diagnosis.printed import printed
from router.fleet.diagnosis.system import holder, oom_kills, system_facts
from router.fleet.keeper_log import Log

SAMPLES = Path(__file__).parent / "diagnosis"


class Sample(msgspec.Struct, frozen=True):
    """The log of one engine, cut to what matters. `source`: which version, and how it was come by."""

    cause: str
    engine: str
    source: str
    log: str


def samples() -> Iterator[Sample]:
    """Each file holds blocks of `=== cause`, `--- engine: source` and the log."""
    for file in sorted(SAMPLES.glob("*.txt")):
        for block in file.read_text(encoding="utf-8").removeprefix("=== ").split("\n=== "):
            cause, source, log = block.split("\n", 2)
            engine, _, words = source.removeprefix("--- ").partition(": ")
            yield Sample(cause, engine, words, log.rstrip("\n") + "\n")


FAILED = [sample for sample in samples() if sample.cause]
HEALTHY = [sample for sample in samples() if not sample.cause]


def name(sample: Sample) -> str:
    return f"{sample.engine}-{sample.cause or 'healthy'}-{sample.source}"


def died(log: str = "", exit: int | None = 1, engine: str = "vllm", **fields: object) -> Death:  # noqa: A002
    return msgspec.structs.replace(Death(engine, log, exit), **fields)


def cause(death: Death) -> str | None:
    found = diagnose(death)
    return found.cause if found else None


# Real logs


@pytest.mark.parametrize("sample", FAILED, ids=name)
def test_a_real_log_gives_its_cause(sample: Sample) -> None:
    found = diagnose(died(sample.log, engine=sample.engine))
    assert found is not None
    assert found.cause == sample.cause
    assert 0 < len(found.evidence) <= 300
    # The evidence stands in the log as it is, though perhaps cut at both ends.
    assert any(found.evidence in line for line in sample.log.splitlines())
    row = next(row for row in TABLE if row.cause == sample.cause)
    assert any(all(part in found.evidence for part in sign.split("…")) for sign in row.signs)


@pytest.mark.parametrize("sample", FAILED, ids=name)
def test_the_keepers_time_in_front_and_colours_change_nothing(sample: Sample) -> None:
    lines = [f"2026-11-20T10:00:00.123Z \x1b[0;36m{line}\x1b[0m" for line in sample.log.splitlines()]
    plain, dressed = (diagnose(died(log, engine=sample.engine)) for log in (sample.log, "\r\n".join(lines)))
    assert plain is not None
    assert plain == dressed


@pytest.mark.parametrize("sample", HEALTHY, ids=name)
@pytest.mark.parametrize("status", [0, 1, None, -signal.SIGTERM])
def test_a_healthy_log_gives_nothing(sample: Sample, status: int | None) -> None:
    assert diagnose(died(sample.log, status, sample.engine)) is None


@pytest.mark.parametrize("sample", HEALTHY, ids=name)
def test_a_failure_after_a_healthy_start_is_found(sample: Sample) -> None:
    log = sample.log + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.74 GiB.\n"
    assert cause(died(log, engine=sample.engine)) == "GPU memory was not enough for the model"


def test_each_cause_of_the_table_has_a_real_log() -> None:
    assert {row.cause for row in TABLE} - {sample.cause for sample in FAILED} == set()
    assert len(TABLE) >= 30


def test_each_sample_says_where_it_is_from() -> None:
    """Seen here with a version, in an issue, or in the engine's own source."""
    told = re.compile(r"run with |by its source|[\w.-]+/[\w.-]+#\d+|as it serves")
    assert [name(sample) for sample in samples() if not told.search(sample.source)] == []


def test_no_two_causes_share_a_sign() -> None:
    signs = [sign for row in TABLE for sign in row.signs]
    assert len(signs) == len(set(signs))


# Real engines

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".demo/chat.gguf"


@pytest.mark.parametrize(
    ("change", "flags", "expected"),
    [
        (lambda content: content[:200_000], [], "a file of the model is damaged or incomplete"),
        (lambda content: b"version https://git-lfs" + content, [], "a file of the model is damaged or incomplete"),
        (
            lambda content: content.replace(b"llama", b"other", 1),
            [],
            "this version of the engine does not know the model's architecture",
        ),
        (lambda content: content, ["--lora", str(MODEL)], "a LoRA adapter cannot be used with this model"),
        (lambda content: content, ["--nonsense"], "the engine does not take one of its flags"),
    ],
)
def test_a_real_llamacpp_that_fails_is_understood(
    tmp_path: Path, change: Callable[[bytes], bytes], flags: list[str], expected: str
) -> None:
    """So that another version of it with other words is noticed."""
    model = tmp_path / "model.gguf"
    model.write_bytes(change(MODEL.read_bytes()))
    assert cause(run_llamacpp("--model", model, *flags)) == expected


def test_a_real_llamacpp_whose_port_is_taken_is_understood() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        death = run_llamacpp("--model", MODEL, "--port", listener.getsockname()[1])
    assert cause(death) == "another program listens on the engine's port"


def run_llamacpp(*flags: object) -> Death:
    engines = Path(os.environ.get("ROUTER_TEST_ENGINES") or ROOT / ".engines")
    program = LAUNCHERS["llamacpp"].find([engines / "llamacpp-server"], LlamaCppOptions(form="server"))
    assert program is not None, "llama-server is not installed: run `make test`, or set ROUTER_TEST_ENGINES"
    argv = [*program.argv, *map(str, flags)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    return died(done.stdout, done.returncode, "llamacpp")


# What the table says


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.cause)
def test_words_for_people_are_one_line_without_paths(row: Cause) -> None:
    words = [row.cause, row.remedy, *row.own.values()]
    assert all(text and text == text.strip() and "\n" not in text and not text.endswith(".") for text in words)
    assert "/" not in words[0].replace("/dev/shm", "")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.cause)
def test_remedies_name_options_that_there_are(row: Cause) -> None:
    for engine, remedy in row.own.items():
        known = LAUNCHERS[engine].Options.__struct_fields__
        assert [option for option in re.findall(r"options\.(\w+)", remedy) if option not in known] == []
    assert "options." not in row.remedy  # nobody knows which engine it is for


# Choosing


def test_the_root_cause_counts_and_not_the_traceback_around_it() -> None:
    log = (
        "(EngineCore pid=7) ERROR 11-20 18:58:18 [core.py:1510] EngineCore failed to start.\n"
        "(EngineCore pid=7) ERROR 11-20 18:58:18 [core.py:1510] ValueError: No available memory for the cache blocks.\n"
        "Traceback (most recent call last):\n"
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    )
    found = diagnose(died(log))
    assert found is not None
    assert found.evidence == "ValueError: No available memory for the cache blocks."


def test_what_only_follows_from_another_failure_does_not_count() -> None:
    log = "torch.OutOfMemoryError: CUDA out of memory.\nRuntimeError: NCCL error: unhandled system error\n"
    assert cause(died(log)) == "GPU memory was not enough for the model"


def test_the_last_of_several_causes_counts() -> None:
    """What came before was overcome."""
    log = "CUDA out of memory\nready\nOSError: [Errno 28] No space left on device\n"
    assert cause(died(log)) == "the disk is full"


@pytest.mark.parametrize(
    "line",
    [
        "(APIServer pid=1) WARNING 11-20 18:58:18 [system_utils.py:255] like `OSError: [Errno 24] Too many open files`",
        "INFO 11-20 18:58:18 [logger.py:39] Received request: prompt: 'CUDA out of memory', params: None",
        'INFO:     127.0.0.1:4 - "GET /CUDA out of memory HTTP/1.1" 404 Not Found',
        "INFO     2026-11-20 19:01:31,036 infinity_emb INFO: No space left on device",
        "0.00.002.634 W srv  llama_server: GGML_ASSERT",
        "0.00.002.634 I srv  update_slots: prompt CUDA out of memory",
        "2026-11-20T10:00:00.123Z (EngineCore pid=9) (Worker pid=3) INFO 11-20 18:58:18 [x.py:1] CUDA out of memory",
    ],
)
def test_what_the_engine_itself_calls_harmless_does_not_count(line: str) -> None:
    assert diagnose(died(f"{line}\nerror: 0 errors, 0 failed requests\n")) is None


def test_of_an_overwritten_line_each_state_is_a_line() -> None:
    log = "Loading: 10%\rLoading: 20%\rRuntimeError: CUDA error: out of memory\r"
    found = diagnose(died(log))
    assert found is not None
    assert found.evidence == "RuntimeError: CUDA error: out of memory"


def test_evidence_of_a_long_line_shows_the_sign() -> None:
    found = diagnose(died("x" * 5000 + " No space left on device " + "y" * 5000))
    assert found is not None
    assert "No space left on device" in found.evidence
    assert len(found.evidence) == 300


def test_a_token_of_the_hub_is_not_shown() -> None:
    found = diagnose(died("Invalid user token. hf_abcdefghijklmnop 401 Client Error"))
    assert found is not None
    assert found.evidence == "Invalid user token. hf_… 401 Client Error"


def test_the_remedy_is_the_engines_own_where_there_is_one() -> None:
    remedies = {engine: diagnose(died("CUDA out of memory", engine=engine)) for engine in LAUNCHERS}
    assert len({found.remedy for found in remedies.values() if found}) == len(LAUNCHERS)


def test_only_the_end_of_a_log_is_read() -> None:
    assert diagnose(died("CUDA out of memory\n" + "fine\n" * 2**14)) is None


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        " ",
        "\n",
        "\r",
        "\x1b[",
        "\x1b]",
        "(",
        "(x pid=1) ",
        "No space left on",
        "CUDA out of memor",
        "INFO 11-20 1:1 [",
    ],
)
def test_a_log_of_any_shape_is_read_in_linear_time(unit: str) -> None:
    """As long as it takes Python to look at each character some ten times; what is quadratic takes seconds."""
    log = (unit * 2**16)[: 2**16]

    def seconds(work: Callable[[], object]) -> float:
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
        return min(taken)

    assert seconds(lambda: diagnose(died(log))) < 20 * seconds(lambda: sum(map(ord, log)))


# Exits and facts


@pytest.mark.parametrize(
    ("death", "expected"),
    [
        (died(exit=-9, facts=Facts(oom_kills=1)), "the system killed it for want of memory"),
        (died("CUDA out of memory", -9, facts=Facts(oom_kills=1)), "the system killed it for want of memory"),
        (died("CUDA out of memory", 1, facts=Facts(oom_kills=1)), "GPU memory was not enough for the model"),
        (
            died("RuntimeError: Engine core initialization failed. Failed core proc(s): {'EngineCore': -9}\n", 1,
                 facts=Facts(oom_kills=2)),
            "the system killed it for want of memory",
        ),
        (died(exit=-9), "somebody killed it (SIGKILL)"),
        (died(exit=137, facts=Facts(oom_kills=1)), "the system killed it for want of memory"),
        (died(exit=139), "the engine crashed (segmentation fault)"),
        (died(exit=143), None),
        (died(exit=255), None),
        (died(exit=128), None),
        (died(exit=-4), "the processor lacks instructions that the engine was built with"),
        (died(exit=-11), "the engine crashed (segmentation fault)"),
        (died(exit=-6), "the engine gave up over a fault of its own (abort)"),
        (died(exit=-7), "the shared memory in /dev/shm is too small"),
        (died(exit=-7, facts=Facts(shm_free=0)), "the shared memory in /dev/shm is too small"),
        (died(facts=Facts(disk_free=1000)), "the disk is full"),
        (died(facts=Facts(disk_free=2**40)), None),
        (died(facts=Facts(port_taken_by="pid 7 (nginx)")), "another program listens on the engine's port"),
        (died("No module named 'x'", -11), "a package is missing from the engine's environment"),
        (died(exit=0), None),
        (died(exit=-15), None),
        (died(exit=-33), None),
        (died(exit=-34), None),
        (died(exit=161), None),
        (died(exit=None), None),
    ],
)  # fmt: skip
def test_exits_and_facts(death: Death, expected: str | None) -> None:
    assert cause(death) == expected


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("model-00001-of-00004.safetensors:  12%|#2  | 600M/4.97G [00:10<01:20, 54.3MB/s]", "downloading the model"),
        ("Fetching 14 files:   7%|#  | 1/14 [00:20<04:20, 20.0s/it]\r", "downloading the model"),
        (
            "Loading safetensors checkpoint shards:  25% Completed | 1/4 [01:00<03:00, 60.1s/it]\n",
            "loading the weights",
        ),
        (
            "load_tensors: loading model tensors, this can take a while... (mmap = true, direct_io = false)",
            "the weights",
        ),
        ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  40%|####  | 20/51 [00:03<00:04]", "warming up"),
        ("Uvicorn running on http://127.0.0.1:1", "not ready within `start_timeout`"),
        ("", "not ready within `start_timeout`"),
        ("CUDA out of memory", "GPU memory was not enough for the model"),
    ],
)
def test_an_engine_that_was_not_ready_in_time_was_at_what_it_printed_last(log: str, expected: str) -> None:
    death = died(log, -signal.SIGKILL, waited=600.0)
    assert expected in (cause(death) or "")


# What a run printed


def test_of_a_log_only_what_this_run_printed_is_read(tmp_path: Path) -> None:
    log = tmp_path / "m.0.log"
    with_times = [(1000.0, "CUDA out of memory"), (1000.999, "[keeper] ended"), (1001.0, "starting"), (1002.5, "dead")]
    stamped = [f"1970-01-01T00:{when // 60:02.0f}:{when % 60:06.3f}Z {text}\n" for when, text in with_times]
    log.write_text("".join(stamped))
    assert printed(log, 1001.0) == "".join(stamped[2:])
    assert diagnose(died(printed(log, 1001.0))) is None
    assert cause(died(printed(log, 1000.0))) == "GPU memory was not enough for the model"
    assert printed(log, 2000.0) == ""


def test_what_was_rotated_away_during_the_run_is_read_too(tmp_path: Path) -> None:
    log = tmp_path / "m.0.log"
    (tmp_path / "m.0.log.1").write_text("1970-01-01T00:00:01.000Z CUDA out of memory\nmore of it\n")
    log.write_text("1970-01-01T00:00:02.000Z ended\n")
    assert cause(died(printed(log, 0.5))) == "GPU memory was not enough for the model"


def test_of_a_large_log_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "m.0.log"
    log.write_text("1970-01-01T00:00:01.000Z line\n" * 10_000)
    assert 2**16 - 40 < len(printed(log, 0.0)) <= 2**16


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert printed(tmp_path / "none.log", 0.0) == ""


def test_the_keepers_own_times_are_read(tmp_path: Path) -> None:
    before = time.time()
    log = Log(str(tmp_path / "m.0.log"), 2**20, 1)
    log.write(b"first\nsecond\n")
    assert [line[25:] for line in printed(tmp_path / "m.0.log", before).splitlines()] == ["first", "second"]
    assert printed(tmp_path / "m.0.log", time.time() + 1) == ""


# The system


def test_the_systems_facts_are_of_this_machine(tmp_path: Path) -> None:
    facts = system_facts(oom_kills_before=oom_kills(), downloads=tmp_path / "not" / "made", port=None)
    assert facts.oom_kills == 0
    assert facts.disk_free is not None
    assert facts.disk_free > 0
    assert facts.port_taken_by is None


def test_processes_that_the_system_killed_before_do_not_count(tmp_path: Path) -> None:
    assert system_facts(oom_kills_before=oom_kills() + 5, downloads=tmp_path).oom_kills == 0


def test_who_listens_on_a_port_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.listen()
        told = holder(port)
        assert told is not None
        assert told.startswith(f"pid {os.getpid()} (")
    assert holder(port) is None


@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_real_process_that_a_signal_ended_is_told_by_its_exit(number: signal.Signals) -> None:
    done = subprocess.run([sys.executable, "-c", f"import os; os.kill(os.getpid(), {number:d})"], check=False)
    found = diagnose(died(exit=done.returncode))
    assert found is not None
    assert found.evidence == f"killed by {number.name}"

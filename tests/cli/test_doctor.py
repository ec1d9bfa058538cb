"""`router doctor`: what it looks at, and what it says of that."""

import json
import os
import resource
import shutil
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from running import Up, fake, until

from router.config import Config, EngineSpec, load
from router.doctor.check import Check, Verdict, once, size
from router.doctor.machine import check_gpus, check_listen, check_machine, check_shm, check_state
from router.doctor.models import check_model, check_models, check_program
from router.doctor.running import check_router, check_row, last_lines
from router.fleet.diagnosis import Diagnosis
from router.fleet.inventory import Gpu
from router.fleet.rows import Info, Row

RUNNING = Info(pid=17, address="http://127.0.0.1:8000", version="0")
BUSY = Gpu(0, "GPU-0", "H200", total=2**37, free=2**30)
FREE = Gpu(1, "GPU-1", "H200", total=2**37, free=2**36)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def config(tmp_path: Path, models: dict[str, Any], **settings: Any) -> Config:
    file = tmp_path / "router.yaml"
    file.write_text(json.dumps({"state_dir": str(tmp_path / "state"), "models": models, **settings}))
    return load(file, lambda: [BUSY, FREE], {})


def engine(tmp_path: Path, name: str, program: str) -> Path:
    """An environment with a program that stands for an engine's."""
    made = tmp_path / "engines" / name / "bin" / program
    made.parent.mkdir(parents=True)
    made.write_text(f"#!{sys.executable}\n")
    made.chmod(0o755)
    return made


@pytest.fixture
def vllm(tmp_path: Path) -> Path:
    return engine(tmp_path, "vllm", "vllm")


def one(tmp_path: Path, **fields: Any) -> EngineSpec:
    """A model of vLLM."""
    model = {"engine": "vllm", "model": "org/model", **fields}
    (spec,) = config(tmp_path, {"m": model}, engines_dir=str(tmp_path / "engines")).models
    assert isinstance(spec, EngineSpec)
    return spec


def row(**fields: Any) -> Row:
    plain = Row(
        model="m", replica=0, engine="vllm", state="ready", pid=1, address=None, gpus=None, uptime_s=None, restarts=0,
        in_flight=0, error=None, state_s=0.0, last_line="", diagnosis=None,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **fields)


def parts(check: Check) -> tuple[Verdict, str]:
    return check.verdict, check.what


# The machine


def test_a_free_address_is_ok_and_stays_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for _ in range(2):
        assert parts(check_listen("127.0.0.1", port, None)) == (Verdict.OK, f"listen: 127.0.0.1:{port} is free")


def test_an_address_that_another_program_holds_is_a_fault_with_its_name() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        check = check_listen("127.0.0.1", port, None)
        assert check.verdict is Verdict.FAULT
        assert f"pid {os.getpid()} (" in check.what
        # Of another port than the router that runs has.
        assert check_listen("127.0.0.1", port, RUNNING).verdict is Verdict.FAULT


def test_the_address_of_the_router_that_runs_is_ok() -> None:
    check = check_listen("127.0.0.1", 8000, RUNNING)
    assert parts(check) == (Verdict.OK, "listen: 127.0.0.1:8000 is held by the router that runs (pid 17)")
    assert check_listen("127.0.0.1", 0, RUNNING).verdict is Verdict.OK


def test_an_address_of_another_machine_is_a_fault() -> None:
    assert check_listen("192.0.2.1", 8000, None).verdict is Verdict.FAULT
    assert check_listen("host.invalid", 8000, None).verdict is Verdict.FAULT


def test_a_state_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    check = check_state(tmp_path / "a" / "b")
    assert check.verdict is Verdict.OK
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_folder_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert check_state(tmp_path / "state").verdict is Verdict.FAULT


@pytest.mark.parametrize(
    ("gpus", "running", "verdicts"),
    [
        ([], None, [Verdict.FAULT]),
        ([BUSY, FREE], None, [Verdict.WARNING, Verdict.OK]),
        ([BUSY, FREE], RUNNING, [Verdict.OK, Verdict.OK]),  # they may be its own engines
    ],
)
def test_gpus(gpus: list[Gpu], running: Info | None, verdicts: list[Verdict]) -> None:
    assert [check.verdict for check in check_gpus(gpus, running)] == verdicts


def test_gpus_and_shared_memory_are_looked_at_only_for_those_who_need_them(tmp_path: Path, vllm: Path) -> None:
    def subjects(**fields: Any) -> set[str]:
        model = {"engine": "vllm", "model": "org/model", **fields}
        made = config(tmp_path, {"m": model}, engines_dir=str(vllm.parents[2]))
        return {check.what.split()[0].rstrip(":") for check in check_machine(made, [FREE], RUNNING)}

    assert subjects(gpus="none") == {"listen", "state_dir", "open", "memory", "/dev/shm"}
    assert subjects(gpus=[1]) == {"listen", "state_dir", "open", "memory", "/dev/shm", "GPU"}
    plain = config(tmp_path, {"m": fake()})
    assert not any("shm" in check.what or "GPU" in check.what for check in check_machine(plain, [FREE], None))


def test_shared_memory_is_told_with_its_size() -> None:
    found = os.statvfs("/dev/shm")
    assert check_shm(several=False).what == f"/dev/shm: {size(found.f_blocks * found.f_frsize)}"


def test_few_open_files_are_a_warning(up: Up) -> None:
    up.write({"m": fake()})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # it is the commands' too
    try:
        done = up.cli("doctor")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "warning  open files: 256 at a time; raise it" in done.stdout
    assert done.returncode == 0, done.stdout


# Engines and models


def test_an_engine_that_is_there_is_ok(tmp_path: Path, vllm: Path) -> None:
    assert parts(check_program(one(tmp_path))) == (Verdict.OK, f"vllm: {vllm}")


def test_an_engine_whose_environment_was_moved_is_a_fault(tmp_path: Path, vllm: Path) -> None:
    """Its script names the interpreter of the old place."""
    vllm.write_text(f"#!{tmp_path}/old/bin/python\n")
    check = check_program(one(tmp_path))
    assert parts(check) == (Verdict.FAULT, f"vllm: {vllm} needs {tmp_path}/old/bin/python, which is gone")
    assert check.remedy == "install it anew: `router install vllm`"


def test_an_engine_that_cannot_be_run_is_a_fault(tmp_path: Path, vllm: Path) -> None:
    spec = one(tmp_path)
    vllm.chmod(0o644)
    assert check_program(spec).verdict is Verdict.FAULT


@pytest.fixture
def folder(tmp_path: Path, vllm: Path) -> Iterator[Path]:
    """A model's folder with two shards."""
    made = tmp_path / "model"
    made.mkdir()
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for shard in shards:
        (made / shard).write_bytes(b"\0" * 1024)
    (made / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}))
    yield made
    assert vllm.exists()


def test_a_whole_model_is_ok(tmp_path: Path, folder: Path) -> None:
    check = check_model(one(tmp_path, model=str(folder)))
    assert parts(check) == (Verdict.OK, f"m: {folder} (0 MiB)")


def test_a_model_without_one_of_its_shards_is_a_fault(tmp_path: Path, folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()
    check = check_model(one(tmp_path, model=str(folder)))
    assert parts(check) == (Verdict.FAULT, f"m: {folder} lacks model-00002-of-00002.safetensors")


def test_pointers_of_git_lfs_are_a_fault(tmp_path: Path, folder: Path) -> None:
    file = folder / "model-00001-of-00002.safetensors"
    file.write_bytes(POINTER)
    check = check_model(one(tmp_path, model=str(folder)))
    assert parts(check) == (Verdict.FAULT, f"m: {file} is a pointer of git-lfs, not the file itself")
    assert "git lfs pull" in check.remedy


def test_a_folder_without_weights_is_a_fault(tmp_path: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    assert parts(check_model(one(tmp_path, model=str(folder)))) == (Verdict.FAULT, f"m: {folder} holds no weights")


def test_an_index_that_cannot_be_read_is_no_fault_of_the_weights(tmp_path: Path, folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("[1]")
    assert check_model(one(tmp_path, model=str(folder))).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("content", "verdict"), [(b"GGUF\3\0", Verdict.OK), (b"PK\3\4", Verdict.FAULT), (POINTER, Verdict.FAULT)]
)
def test_a_file_is_known_by_how_it_begins(tmp_path: Path, vllm: Path, content: bytes, verdict: Verdict) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert vllm.exists()
    assert check_model(one(tmp_path, model=str(file))).verdict is verdict


def test_a_model_of_a_hub_that_is_not_here_is_a_warning_and_offline_a_fault(tmp_path: Path, vllm: Path) -> None:
    env = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    check = check_model(one(tmp_path, env=env))
    assert parts(check) == (Verdict.WARNING, f"m: org/model is not, or not wholly, in {tmp_path}/hub")
    assert "`router pull m`" in check.remedy
    check = check_model(one(tmp_path, env={**env, "HF_HUB_OFFLINE": "1"}))
    assert check.verdict is Verdict.FAULT
    assert vllm.exists()


ENCODERS = [("bert", "chat"), ("nomic-bert", None), ("t5encoder", "chat")]


def header(architecture: str) -> bytes:
    """A GGUF file that says of what architecture it is, and no more."""
    words = [b"general.architecture", architecture.encode()]
    key, value = (struct.pack("<Q", len(word)) + word for word in words)
    return struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + key + struct.pack("<I", 8) + value


def of_gguf(tmp_path: Path, architecture: str, kind: str | None) -> dict[str, Any]:
    server = tmp_path / "llama-server"
    server.touch(0o755)
    (tmp_path / "model.gguf").write_bytes(header(architecture))
    model = {"engine": "llamacpp", "environment": str(server), "model": str(tmp_path / "model.gguf")}
    return model | ({"kind": kind} if kind else {})


@pytest.mark.parametrize(("architecture", "kind"), ENCODERS)
def test_an_encoder_that_is_to_chat_is_a_fault(tmp_path: Path, architecture: str, kind: str | None) -> None:
    checks = check_models(config(tmp_path, {"m": of_gguf(tmp_path, architecture, kind)}))
    (check,) = [check for check in checks if check.verdict is Verdict.FAULT]
    assert check.what == f"m: {tmp_path}/model.gguf ({architecture}) cannot chat"
    assert check.remedy == "add `kind: embedding` or `kind: rerank`"


@pytest.mark.parametrize(("architecture", "kind"), [("bert", "embedding"), ("llama", "chat"), ("llama", "rerank")])
def test_what_its_kind_fits_is_no_fault(tmp_path: Path, architecture: str, kind: str) -> None:
    checks = check_models(config(tmp_path, {"m": of_gguf(tmp_path, architecture, kind)}))
    assert {check.verdict for check in checks} == {Verdict.OK}


def test_router_check_tells_of_an_encoder_that_is_to_chat(up: Up) -> None:
    done = up.write({"m": of_gguf(up.folder, "bert", None)}).cli("check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"fault    m: {up.folder}/model.gguf (bert) cannot chat; add `kind: embedding` or `kind: rerank`\n"
    )


def far(tmp_path: Path, url: str, **fields: Any) -> Config:
    return config(tmp_path, {"far": {"url": url, **fields}})


def test_a_server_elsewhere_is_asked_for_a_connection(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        (silent,) = check_models(far(tmp_path, f"http://127.0.0.1:{port}/v1"))
        listener.listen()
        (there,) = check_models(far(tmp_path, f"http://127.0.0.1:{port}/v1"))
    assert parts(there) == (Verdict.OK, f"far: 127.0.0.1:{port} answers")
    assert silent.verdict is Verdict.WARNING
    assert silent.what.startswith(f"far: 127.0.0.1:{port} does not answer: ")


def test_token_numbers_need_their_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder there is none; the answer is there whether tiktoken is, or not."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    _, check = check_models(far(tmp_path, "http://127.0.0.1:1/v1", kind="embedding", decode_openai_tokens=True))
    assert parts(check) == (Verdict.FAULT, "far: token numbers cannot be made text")
    assert "`decode_openai_tokens` needs " in check.remedy


# The router that runs


def test_without_a_router_there_is_nothing_more_to_say(tmp_path: Path) -> None:
    (check,) = check_router(None, [], tmp_path)
    assert parts(check) == (Verdict.OK, f"router: none runs in {tmp_path}")


def test_a_router_of_another_version_is_a_warning(tmp_path: Path) -> None:
    first, second = check_router(RUNNING, [row()], tmp_path)
    assert first.verdict is Verdict.WARNING
    assert parts(second) == (Verdict.OK, "m#0: ready")


def test_a_failed_engine_is_told_with_all_that_is_known(tmp_path: Path) -> None:
    log = tmp_path / "m.0.log"
    log.write_text("".join(f"line {number}\n" for number in range(5000)))
    diagnosis = Diagnosis("the disk is full", "OSError: [Errno 28]", "make room")
    check = check_row(row(state="failed", error="exited with status 1: x", diagnosis=diagnosis), log)
    assert check.render().splitlines() == [
        "fault    m#0: failed: the disk is full; make room",
        "         it shows in: OSError: [Errno 28]",
        *(f"         | line {number}" for number in range(4990, 5000)),
    ]


def test_a_failed_engine_that_nobody_understands_is_told_as_it_is(tmp_path: Path) -> None:
    check = check_row(row(state="failed", error="exited with status 1: x"), tmp_path / "none.log")
    assert check.render() == "fault    m#0: failed: exited with status 1: x; see `router logs m`"


def test_the_last_lines_of_a_log_that_is_not_text_can_be_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\xff\xfe\n" * 3)
    assert last_lines(log) == ("| \ufffd\ufffd",) * 3


def test_each_check_is_told_once() -> None:
    check = Check(Verdict.OK, "x")
    assert list(once([check, check])) == [check]


# The command


def test_a_good_file_without_a_router_exits_with_0(up: Up) -> None:
    done = up.write({"m": fake(), "n": fake()}).cli("doctor")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == f"ok       file: {up.file}"
    assert {line.split()[0] for line in lines} <= {"ok", "warning"}
    assert len(lines) == len(set(lines))
    assert not up.state_dir.exists()


def test_every_fault_of_the_file_is_a_line_and_the_exit_status_is_1(up: Up) -> None:
    done = up.write({"m": {"engine": "vlm", "model": "org/model"}, "n": {}}, max_body="much").cli("doctor")
    assert done.returncode == 1
    faults = [line for line in done.stdout.splitlines() if line.startswith("fault")]
    assert len(faults) >= 3
    assert done.stderr == f"{len(faults)} faults\n"
    assert any(line.startswith("ok       state_dir:") for line in done.stdout.splitlines())


def test_a_file_that_is_not_there_is_a_fault(up: Up) -> None:
    done = up.cli("doctor")
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "cannot be read" in done.stdout


def test_a_running_router_and_its_engines_are_ok(up: Up) -> None:
    up.ready({"m": fake()})
    done = up.cli("doctor")
    assert done.returncode == 0, done.stdout
    assert f"is held by the router that runs (pid {up.pid})" in done.stdout
    assert "ok       m#0: ready" in done.stdout


def test_a_failed_engine_of_a_running_router_is_diagnosed(up: Up) -> None:
    up.write({"m": fake("--say", "OSError: [Errno 28] No space left on device", "--exit", 1)}).start()
    until(lambda: up.rows() and up.row().error)
    done = up.cli("doctor")
    assert done.returncode == 1
    assert "the disk is full; make room" in done.stdout
    assert "         it shows in: OSError: [Errno 28] No space left on device" in done.stdout
    assert "         | " in done.stdout

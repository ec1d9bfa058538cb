"""`router pull`, by the real libraries, from a hub on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engines import hub as hubs
from huggingface_hub import snapshot_download
from modelscope_hub import HubApi
from running import DEADLINE, until

from demo.__main__ import make
from launchers import LAUNCHERS
from launchers.base import Program, Source
from router.config import Config, EngineSpec, launch, load
from router.downloads.held import missing
from router.downloads.hub import PullFailed
from router.downloads.needed import needed
from router.downloads.pull import pull

MIB = 2**20
PIECE = 10 * MIB
"""As much of a file as huggingface_hub reads before it writes."""
WEIGHTS = os.urandom(2 * PIECE + MIB)
SMALL = {"config.json": b'{"model_type": "qwen3"}', "tokenizer.json": b"{}", "model.safetensors": WEIGHTS[:MIB]}
LARGE = {"config.json": b"{}", "model.safetensors": WEIGHTS}
ROOT = Path(__file__).parents[2]
ROUTER = [sys.executable, "-m", "router", "pull"]


@dataclass
class Machine:
    """A file with models, caches of its own, and a hub."""

    folder: Path
    hub: hubs.Hub
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {"HF_HOME": str(self.folder / "hf"), "MODELSCOPE_CACHE": str(self.folder / "ms"), **self.hub.env}
        dropped = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "MODELSCOPE_DOMAIN")
        self.env = {name: value for name, value in os.environ.items() if name not in dropped} | own

    @property
    def file(self) -> Path:
        return self.folder / "router.yaml"

    @property
    def repository(self) -> Path:
        return self.folder / "hf/hub/models--org--small"

    def write(self, **models: str | dict[str, Any]) -> "Machine":
        """Models of `engine: command`, by their `model:` or by all that is to be said of them."""
        plain = {"engine": "command", "options": {"argv": [sys.executable]}}
        entries = {name: {**plain, **({"model": text} if isinstance(text, str) else text)}
                   for name, text in models.items()}  # fmt: skip
        self.file.write_text(json.dumps({"models": entries, "engines_dir": str(self.folder / "engines")}))
        return self

    def pull(self, *names: str, program: list[str] = ROUTER) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *names, "-c", str(self.file)],
            capture_output=True, text=True, timeout=2 * DEADLINE, env=self.env, check=False,
        )  # fmt: skip

    def start(self, **files: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*ROUTER, "-c", str(self.file)], env=self.env, **files)

    def spec(self, name: str = "m") -> EngineSpec:
        config: Config = load(self.file, list, self.env)
        (found,) = [model for model in config.models if model.name == name]
        assert isinstance(found, EngineSpec)
        return found

    def parts(self) -> list[int]:
        """The sizes of the files that have come in part."""
        return [path.stat().st_size for path in self.folder.rglob("*.incomplete")]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with hubs.serve({"org/small": SMALL, "org/large": LARGE}) as hub:
        machine = Machine(tmp_path, hub)
        for name in ("HF_HOME", "HF_ENDPOINT", "MODELSCOPE_CACHE", "MODELSCOPE_ENDPOINT"):
            monkeypatch.setenv(name, machine.env[name])
        yield machine


class Quiet:
    """Follows a download without a word."""

    def begin(self, hub: str, size: int, held: int) -> None: ...

    def come(self, count: int) -> None: ...


# What comes, and where it lands


def test_the_files_land_where_the_engines_look(machine: Machine) -> None:
    done = machine.write(m="org/small").pull()
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert done.stdout.startswith("m: complete, 1.0 MB, of which 1.0 MB came now, in ")
    found = Path(snapshot_download("org/small", cache_dir=machine.folder / "hf/hub", local_files_only=True))
    assert str(found) in done.stdout
    assert {path.name: path.read_bytes() for path in found.iterdir()} == SMALL
    assert (machine.repository / "refs/main").read_text() == hubs.COMMIT


def test_a_second_pull_downloads_nothing(machine: Machine) -> None:
    machine.write(m="org/small").pull()
    sent = list(machine.hub.sent)
    done = machine.pull()
    assert done.stdout.startswith("m: was complete already, 1.0 MB in ")
    assert (done.returncode, machine.hub.sent, len(sent)) == (0, sent, len(SMALL))


def test_only_the_models_that_are_named_come_and_an_alias_is_a_name(machine: Machine) -> None:
    machine.write(m="org/large", n={"model": "org/small", "aliases": ["gpt"]})
    done = machine.pull("gpt")
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "n"), done.stderr
    assert not machine.hub.ranges("model.safetensors")[1:]
    assert not (machine.folder / "hf/hub/models--org--large").exists()


def test_the_environment_of_a_model_says_where_its_files_go(machine: Machine) -> None:
    other = machine.folder / "other"
    done = machine.write(m={"model": "org/small", "env": {"HF_HUB_CACHE": str(other)}}).pull()
    assert done.returncode == 0, done.stderr
    assert (other / "models--org--small/refs/main").exists()
    assert not machine.repository.exists()


def test_modelscope_has_a_cache_of_its_own(machine: Machine) -> None:
    done = machine.write(m="modelscope://org/small").pull()
    assert (done.returncode, done.stdout.split(",")[0]) == (0, "m: complete"), done.stderr
    assert "%" not in done.stderr
    found = HubApi().download_repo("org/small", "model", local_files_only=True)
    assert {path.name: path.read_bytes() for path in found.iterdir()} == SMALL
    assert machine.pull().stdout.startswith("m: was complete already")
    assert len(machine.hub.sent) == len(SMALL)


def test_what_stands_on_disk_or_elsewhere_is_not_downloaded(machine: Machine) -> None:
    folder = machine.folder / "weights"
    folder.mkdir()
    machine.write(m=str(folder), n={})
    done = machine.pull()
    assert (done.returncode, done.stdout) == (0, f"{machine.file}: no model comes from a hub, nothing to download\n")
    done = machine.pull("m")
    assert (done.returncode, done.stdout) == (0, "m: nothing to download, its `model` is not on a hub\n")


# Which files


def engine(name: str, model: str = "org/m", *args: str, form: str = "", **options: Any) -> dict[str, Any]:
    """What tells one engine's model from another's."""
    typed = msgspec.convert(options, LAUNCHERS[name].Options)
    return {"engine": name, "source": Source("hub", model), "args": args, "options": typed,
            "program": Program((name,), form)}  # fmt: skip


# Each file is marked: + where it is needed, - where it is not.
SAFETENSORS_AND_MORE = (
    "+config.json +tokenizer.json +model-00001-of-00002.safetensors +model-00002-of-00002.safetensors "
    "+model.safetensors.index.json -pytorch_model.bin -original/consolidated.00.pth -onnx/model.onnx -tf_model.h5 "
    "-m-Q4_K_M.gguf -metal/model.bin +1_Pooling/config.json +2_Dense/pytorch_model.bin"
)
BGE_M3 = "+config.json +pytorch_model.bin +colbert_linear.pt -onnx/model.onnx -onnx/model.onnx_data +sparse_linear.pt"
ONNX = "+config.json -pytorch_model.bin +onnx/model.onnx +onnx/model.onnx_data"
MISTRAL = "+params.json +config.json {0}consolidated.safetensors {1}model-00001-of-00001.safetensors"
GGUFS = (
    "-README.md -a-Q2_K.gguf {0}a-Q4_K_M.gguf {1}Q8_0/a-Q8_0-00001-of-00002.gguf {1}Q8_0/a-Q8_0-00002-of-00002.gguf "
    "{2}mmproj-F16.gguf -mmproj-F32.gguf -imatrix.gguf"
)
ON_ONNX = msgspec.convert({"engine": "optimum"}, LAUNCHERS["infinity"].Options)


@pytest.mark.parametrize(
    ("fields", "marked"),
    [
        (engine("vllm"), SAFETENSORS_AND_MORE),
        (engine("infinity"), BGE_M3),
        ({**engine("infinity"), "options": ON_ONNX}, ONNX),
        (engine("vllm"), MISTRAL.format("+", "-")),
        (engine("vllm", load_format="safetensors"), MISTRAL.format("-", "+")),
        (engine("infinity"), MISTRAL.format("-", "+")),
        (engine("llamacpp", form="server"), GGUFS.format("+", "-", "+")),
        (engine("llamacpp", "org/m:q8_0", form="server"), GGUFS.format("-", "+", "+")),
        (engine("llamacpp", "org/m:Q8_0", form="python"), GGUFS.format("-", "+", "-")),
        (engine("llamacpp", "org/m", "--no-mmproj", form="server"), GGUFS.format("+", "-", "-")),
        (engine("llamacpp", "org/m", "--mmproj", "own.gguf", form="server"), GGUFS.format("+", "-", "-")),
        (engine("llamacpp", "org/m", "--hf-file=a-Q2_K.gguf", form="server"), "+a-Q2_K.gguf -a-Q4_K_M.gguf"),
        (engine("llamacpp", form="server"), "+a-F16.gguf -b-F16.gguf"),
        (engine("llamacpp", "org/m:Q3_K", form="server"), "-a-Q4_K_M.gguf"),
        (engine("vllm", "org/m:Q4_K_M"), "+config.json +a-Q4_K_M.gguf -a-Q8_0.gguf"),
    ],
)
def test_an_engine_needs_its_own_form_of_the_weights_once(tmp_path: Path, fields: dict[str, Any], marked: str) -> None:
    file = tmp_path / "router.yaml"
    file.write_text(json.dumps({"models": {"m": {"engine": "command", "options": {"argv": [sys.executable]}}}}))
    (plain,) = load(file, list).models
    paths = [word[1:] for word in marked.split()]
    assert sorted(needed(msgspec.structs.replace(plain, **fields), paths)) == sorted(
        word[1:] for word in marked.split() if word[0] == "+"
    )


def test_what_has_come_in_part_is_missing_still(machine: Machine) -> None:
    shards = {f"model-{number}.safetensors": WEIGHTS[:100] for number in (1, 2)}
    index = json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}).encode()
    machine.hub.models["org/split"] = {"config.json": b"{}", "model.safetensors.index.json": index, **shards}
    machine.hub.models["org/split-GGUF"] = {f"m-Q8_0-0000{number}-of-00002.gguf": b"GGUF" for number in (1, 2)}
    machine.write(m="org/split", g={"model": "org/split-GGUF:Q8_0"}, folder=str(machine.folder))
    assert (missing(machine.spec("m")), missing(machine.spec("g")), missing(machine.spec("folder"))) == (1, 1, 0)
    assert machine.pull().returncode == 0
    assert (missing(machine.spec("m")), missing(machine.spec("g"))) == (False, False)
    for last in ("model-2.safetensors", "m-Q8_0-00002-of-00002.gguf"):
        (found,) = machine.folder.glob(f"hf/hub/*/snapshots/*/{last}")
        found.unlink()
    assert (missing(machine.spec("m")), missing(machine.spec("g"))) == (True, True)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "LLAMA_CACHE"])
def test_llama_cpp_starts_from_what_was_pulled_without_a_hub(machine: Machine, variable: str) -> None:
    make(ROOT / ".demo")
    content = (ROOT / ".demo/chat-end.gguf").read_bytes()
    machine.hub.models["org/m-GGUF"] = {"m-Q4_K_M.gguf": content, "m-Q8_0.gguf": content + bytes(1)}
    engines = Path(os.environ.get("ROUTER_TEST_ENGINES") or ROOT / ".engines")
    own = {"engine": "llamacpp", "environment": str(engines / "llamacpp-server"), "options": {"form": "server"}}
    cache = {variable: str(machine.folder / "cache")}
    machine.write(m={"model": "org/m-GGUF", "env": cache, **own})
    assert machine.pull().returncode == 0
    assert machine.hub.sent == [("m-Q4_K_M.gguf", "")]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = LAUNCHERS["llamacpp"].command(launch(machine.spec(), port=port, key="k", gpus=()))
    gone = {"HF_ENDPOINT": "http://127.0.0.1:9", "MODEL_ENDPOINT": "http://127.0.0.1:9"}
    with subprocess.Popen(
        command.argv, env={**machine.env, **command.env, **cache, **gone}, stderr=subprocess.DEVNULL
    ) as engine:
        try:
            until(lambda: engine.poll() is not None or answers(f"http://127.0.0.1:{port}/health"))
            assert engine.poll() is None
        finally:
            engine.kill()


def answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=DEADLINE).status == 200)
    except OSError:
        return False


# Ends


def killed(machine: Machine, end: Callable[["subprocess.Popen[bytes]"], object]) -> int:
    """A pull of the large model that `end` ends in its midst; its exit status."""
    machine.hub.hold = ("model.safetensors", PIECE + MIB)
    process = machine.start(stderr=subprocess.DEVNULL)
    assert machine.hub.held.wait(DEADLINE)
    until(lambda: max(machine.parts(), default=0) >= PIECE)
    end(process)
    status = process.wait(DEADLINE)
    machine.hub.go.set()
    return status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("source", ["org/large", "modelscope://org/large"])
def test_what_was_ended_goes_on_where_it_was(machine: Machine, source: str, number: signal.Signals) -> None:
    machine.write(m=source)
    assert killed(machine, lambda process: process.send_signal(number)) == (-9 if number == signal.SIGKILL else 130)
    assert missing(machine.spec())
    (part,) = machine.parts()
    done = machine.pull()
    assert done.returncode == 0, done.stderr
    assert machine.hub.ranges("model.safetensors") == ["", f"bytes={part}-"]
    assert pull(machine.spec(), Quiet()).folder.joinpath("model.safetensors").read_bytes() == WEIGHTS
    assert not missing(machine.spec())
    assert machine.parts() == []


def test_ctrl_c_says_that_what_has_come_is_kept(machine: Machine) -> None:
    machine.write(m="org/large").hub.hold = ("model.safetensors", MIB)
    process = machine.start(stderr=subprocess.PIPE)
    assert machine.hub.held.wait(DEADLINE)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=DEADLINE)
    assert said.decode().endswith("interrupted; what has come is kept, and `router pull` goes on from there\n")


def test_a_part_that_was_damaged_is_not_served(machine: Machine) -> None:
    machine.write(m="org/large")
    part = machine.folder / "hf/hub/models--org--large/blobs" / f"{hubs.etag(WEIGHTS)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(MIB))
    done = machine.pull()
    assert (done.returncode, missing(machine.spec())) == (1, True)
    assert "model.safetensors was damaged on disk, and has been removed; run `router pull` again" in done.stderr
    assert machine.pull().returncode == 0


# Faults


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("org/none", "no model org/none at {hub}, or a private one; check the id, or set HF_TOKEN"),
        ("modelscope://org/none", "no model org/none at {hub} in revision master, or a private one; check the id"),
        ("org/small:Q4_K_M", "org/small has no weights that this engine reads; check the id"),
    ],
)
def test_a_model_that_is_not_there_is_said_to_be_missing(machine: Machine, source: str, said: str) -> None:
    done = machine.write(m=source).pull()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"router: m: {said.format(hub=machine.hub.address)}\n"


def test_a_gated_model_needs_consent_and_a_token(machine: Machine) -> None:
    machine.hub.gated.add("org/small")
    done = machine.write(m="org/small").pull()
    assert done.returncode == 1
    terms = f"{machine.hub.address}/org/small"
    expected = f"org/small is gated: accept its terms at {terms}, then set HF_TOKEN to a token of that account"
    assert done.stderr.splitlines()[-1] == f"router: m: {expected}"


@pytest.mark.parametrize("source", ["org/small", "modelscope://org/small"])
def test_without_a_network_it_says_what_it_could_not_reach(machine: Machine, source: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        machine.env |= dict.fromkeys(("HF_ENDPOINT", "MODELSCOPE_ENDPOINT"), address)
        machine.env["MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS"] = "1"  # else it tries for seconds
        done = machine.write(m=source).pull()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"router: m: cannot reach {address}: ")
    assert "check the network and HTTPS_PROXY" in line


def test_a_revision_that_is_not_there_is_named(machine: Machine) -> None:
    done = machine.write(m={"model": "org/small", "args": ["--revision=v9"]}).pull()
    assert done.stderr == "router: m: org/small has no revision v9; check `revision`\n"


def test_a_small_disk_is_found_before_anything_comes(machine: Machine) -> None:
    with pytest.raises(PullFailed, match=r"no room in .*/hf/hub: 1\.0 MB to download, 40\.6 kB free, 1\.0 MB too lit"):
        pull(machine.write(m="org/small").spec(), Quiet(), lambda _: 40_600)
    assert machine.hub.sent == []


def test_the_other_models_are_tried_and_all_faults_come_at_the_end(machine: Machine) -> None:
    done = machine.write(a="org/none", b="org/small", c="org/nothing").pull()
    assert done.returncode == 1
    assert done.stdout.startswith("b: complete")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()[-2:]] == ["a", "c"]


def test_a_name_that_no_model_has_is_refused_with_the_nearest(machine: Machine) -> None:
    done = machine.write(qwen="org/small").pull("quen")
    assert (done.returncode, machine.hub.sent) == (2, [])
    assert "no model is called 'quen'; did you mean `qwen`?" in done.stderr


@pytest.mark.parametrize(
    ("source", "package"), [("", "huggingface_hub>=2.4"), ("modelscope://", "modelscope-hub>=0.5")]
)
def test_without_the_library_it_names_the_command(machine: Machine, source: str, package: str) -> None:
    module = package.partition(">")[0].replace("-", "_")
    code = f"import sys; sys.modules[{module!r}] = None; from router.cli import main; main()"
    done = machine.write(m=f"{source}org/small").pull(program=[sys.executable, "-c", code, "pull"])
    assert done.returncode == 1
    assert done.stderr == f"router: m: needs {module}: run `{sys.executable} -m pip install '{package}'`\n"

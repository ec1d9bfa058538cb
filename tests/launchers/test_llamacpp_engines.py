"""The flags of each form of llama.cpp, against the parser of the engine itself."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from launching import FILE, asked, installed, launch

from launchers import LAUNCHERS, xllamacpp_server
from launchers.base import Command, Program

# One value for every option.
COMMON: dict[str, Any] = {
    "context": 1024,
    "gpu_layers": "all",
    "split_mode": "row",
    "tensor_split": [3, 1],
    "main_gpu": 1,
    "flash_attention": True,
    "cache_type_k": "q8_0",
    "cache_type_v": "bf16",
    "batch": 64,
    "ubatch": 32,
    "threads": 3,
    "lora": ["/lora.gguf"],
}
OWN: dict[str, Any] = {
    "lora_on_request": True,
    "slots": 2,
    "pooling": "cls",
    "jinja": True,
    "chat_template": __file__,
    "reasoning_format": "none",
    "mmproj": "/mmproj.gguf",
}


def made(program: Program, options: dict[str, Any], **changes: Any) -> Command:
    return LAUNCHERS["llamacpp"].command(launch("llamacpp", options, program=program, source=FILE, **changes))


def server() -> Program:
    return installed("llamacpp", "llamacpp-server", form="server")


def test_every_option_has_a_case() -> None:
    assert set(COMMON) | set(OWN) | {"form"} == set(LAUNCHERS["llamacpp"].Options.__struct_fields__)


@pytest.mark.parametrize("kind", ["chat", "embedding", "rerank", "transcription"])
@pytest.mark.parametrize("gpus", [None, ()])
def test_llama_server_takes_every_flag(kind: str, gpus: Any) -> None:
    # One GPU at most here: a share for each of several is checked against the devices there are.
    skipped = {"tensor_split"} if gpus is None else {"tensor_split", "gpu_layers"}
    options = {field: value for field, value in (COMMON | OWN).items() if field not in skipped}
    if kind == "rerank":
        del options["pooling"]
    argv = made(server(), options, kind=kind, gpus=gpus).argv
    done = subprocess.run([*argv, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "version:" in done.stdout + done.stderr


def test_llama_server_refuses_what_it_does_not_know() -> None:
    done = subprocess.run([*server().argv, "--no-such-flag", "--version"], capture_output=True, timeout=60, check=False)
    assert done.returncode != 0


def test_llama_server_documents_every_flag_and_the_keys_variable() -> None:
    help_text = subprocess.run(
        [*server().argv, "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    known = set(help_text.replace(",", " ").split())
    flags = {word for word in made(server(), COMMON | OWN).argv if word.startswith("--")}
    ours = {option for action in xllamacpp_server.parser()._actions for option in action.option_strings}
    # Argparse makes a `--no-` for each switch; llama.cpp has one for most.
    assert flags <= known
    assert {flag for flag in ours if not flag.startswith("--no-")} <= known
    assert "LLAMA_API_KEY)" in known


PARAMETERS = """
import json, runpy, sys
given = json.load(sys.stdin)
wrapper = runpy.run_path(given["argv"][0])
params = wrapper["parameters"](wrapper["parser"]().parse_args(given["argv"][1:]), "k")
print(json.dumps({
    "model": params.model.path, "alias": sorted(params.model_alias), "keys": list(params.api_keys),
    "hosts": list(params.hostnames), "port": params.port, "context": params.n_ctx, "slots": params.n_parallel,
    "unified": params.kv_unified, "layers": params.n_gpu_layers, "split": params.split_mode.name,
    "shares": list(params.tensor_split)[:3], "main": params.main_gpu, "attention": params.flash_attn_type.name,
    "k": params.cache_type_k.name, "v": params.cache_type_v.name, "batch": params.n_batch, "ubatch": params.n_ubatch,
    "threads": params.cpuparams.n_threads, "prompt_threads": params.cpuparams_batch.n_threads,
    "cached": params.cache_prompt,
    "lora": [[adapter.path, adapter.scale] for adapter in params.lora_adapters], "pooling": params.pooling_type.name,
    "jinja": params.use_jinja, "template": len(params.chat_template), "thinking": params.reasoning_format.name,
    "mmproj": params.mmproj.path, "metrics": params.endpoint_metrics, "page": params.ui, "embedding": params.embedding,
}))
"""


def test_the_wrapper_hands_every_option_to_llamacpp() -> None:
    program = installed("llamacpp", "llamacpp", form="xllamacpp")
    python, *_, wrapper = program.argv
    argv = made(program, COMMON | OWN).argv
    assert asked(python, PARAMETERS, {"argv": [wrapper, *argv[len(program.argv) :]]}) == {
        "model": "/models/m.gguf",
        "alias": ["m"],
        "keys": ["k"],
        "hosts": ["127.0.0.1"],
        "port": 9001,
        "context": 1024,
        "slots": 2,
        "unified": False,
        "layers": -2,
        "split": "LLAMA_SPLIT_MODE_ROW",
        "shares": [3.0, 1.0, 0.0],
        "main": 1,
        "attention": "LLAMA_FLASH_ATTN_TYPE_ENABLED",
        "k": "GGML_TYPE_Q8_0",
        "v": "GGML_TYPE_BF16",
        "batch": 64,
        "ubatch": 32,
        "threads": 3,
        "prompt_threads": 3,
        "cached": False,
        "lora": [["/lora.gguf", 0.0]],
        "pooling": "LLAMA_POOLING_TYPE_CLS",
        "jinja": True,
        "template": len(Path(__file__).read_text()),
        "thinking": "COMMON_REASONING_FORMAT_NONE",
        "mmproj": "/mmproj.gguf",
        "metrics": True,
        "page": False,
        "embedding": False,
    }


def test_the_wrapper_has_llama_servers_own_defaults() -> None:
    program = installed("llamacpp", "llamacpp", form="xllamacpp")
    python, *_, wrapper = program.argv
    chat = asked(python, PARAMETERS, {"argv": [wrapper, "--model", "a/b.gguf"]})
    assert (chat["slots"], chat["unified"], chat["context"], chat["alias"], chat["page"]) == (4, True, 0, ["b"], True)
    rerank = asked(python, PARAMETERS, {"argv": [wrapper, "--model", "m", "--reranking", "--ubatch-size", "64"]})
    assert (rerank["embedding"], rerank["pooling"], rerank["batch"]) == (True, "LLAMA_POOLING_TYPE_RANK", 64)


@pytest.mark.parametrize(("content", "says"), [(None, "no such file: "), ("not a model", "cannot serve ")])
def test_the_wrapper_says_in_one_line_why_it_cannot_serve(tmp_path: Path, content: str | None, says: str) -> None:
    program = installed("llamacpp", "llamacpp", form="xllamacpp")
    model = tmp_path / "m.gguf"
    if content:
        model.write_text(content)
    argv = [*program.argv, "--model", str(model), "--port", "0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"xllamacpp_server: {says}{model}")


PARSE = """
import argparse, json, sys
from llama_cpp.server.cli import add_args_from_model, parse_model_from_args
from llama_cpp.server.settings import ModelSettings, ServerSettings, Settings
given = json.load(sys.stdin)
parser = argparse.ArgumentParser()
add_args_from_model(parser, Settings)
parsed = parser.parse_args(given["argv"])
settings = {}
for part in (ServerSettings, ModelSettings):
    settings |= parse_model_from_args(part, parsed).model_dump()
print(json.dumps({"settings": settings, "variables": [name.upper() for name in Settings.model_fields]}))
"""


def test_llama_cpp_pythons_own_parser_takes_every_option() -> None:
    program = installed("llamacpp", "llamacpp-python", form="python")
    command = made(program, COMMON, kind="embedding")
    answer = asked(program.argv[0], PARSE, {"argv": command.argv[len(program.argv) :]})
    expected = {
        "model": "/models/m.gguf",
        "model_alias": "m",
        "host": "127.0.0.1",
        "port": 9001,
        "n_ctx": 1024,
        "interrupt_requests": False,
        "embedding": True,
        "n_gpu_layers": -1,
        "split_mode": 2,
        "main_gpu": 1,
        "tensor_split": [3.0, 1.0],
        "flash_attn": True,
        "type_k": 8,
        "type_v": 30,
        "n_batch": 64,
        "n_ubatch": 32,
        "n_threads": 3,
        "lora_path": "/lora.gguf",
    }
    assert {name: answer["settings"][name] for name in expected} == expected
    # Whatever it reads from the environment is dropped before it starts.
    assert set(answer["variables"]) | {"CONFIG_FILE"} == set(command.scrub)
    assert set(command.env) <= set(command.scrub)

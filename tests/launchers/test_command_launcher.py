from pathlib import Path
from typing import Any

import msgspec
import pytest
from launching import KEY, command

from launchers import LAUNCHERS
from launchers.base import Probe, Program, Refusal
from launchers.kinds import KIND_PATHS, PUBLIC_PATHS
from router.proxy.paths import PATHS


def run(options: dict[str, Any], **changes: Any) -> Any:
    return command("command", {"argv": ["serve"]} | options, **changes)


def test_placeholders_are_filled_in() -> None:
    argv = ["serve", "${MODEL}", "--on=${HOST}:${PORT}", "--name", "${NAME}", "--key", "${KEY}", "$$5"]
    made = run({"argv": argv}, args=("--as-it-is", "${PORT} $"), program=Program(("/bin/serve",)))
    assert made.argv == (
        *("/bin/serve", "org/model", "--on=127.0.0.1:9001", "--name", "m", "--key", KEY, "$5"),
        *("--as-it-is", "${PORT} $"),
    )


@pytest.mark.parametrize("word", ["${PROT}", "costs $", "${"])
def test_a_placeholder_that_means_nothing_is_refused(word: str) -> None:
    with pytest.raises(Refusal, match="PORT") as refused:
        run({"argv": ["serve", word]})
    assert refused.value.field == "options.argv"


def test_defaults_are_a_health_page_and_the_paths_of_the_kind() -> None:
    made = run({}, kind="speech")
    assert made.readiness == made.liveness == Probe("/health")
    assert made.paths == {path: path for path in KIND_PATHS["speech"]}
    assert (made.served, made.keep_alive.idle, made.concurrency, dict(made.env)) == ("m", 4, None, {})


def test_what_the_file_says_about_the_program_is_kept() -> None:
    made = run({"ready": "/up", "ready_status": 204, "served_name": "x", "keep_alive": 60, "concurrency": 2})
    assert made.readiness == Probe("/up", (204,))
    assert (made.served, made.keep_alive.idle, made.concurrency) == ("x", 60, 2)


def test_the_key_goes_into_the_variable_that_is_named() -> None:
    made = run({"key_env": "API_TOKEN"}, gpus=("1",))
    assert made.env["API_TOKEN"] == KEY
    assert made.readiness.key
    assert made.env["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize(
    ("paths", "made"),
    [
        (["/v1/embeddings"], {"/v1/embeddings": "/v1/embeddings"}),
        ({"/v1/rerank": "/api/rank"}, {"/v1/rerank": "/api/rank"}),
    ],
)
def test_paths_are_a_list_or_a_map(paths: Any, made: dict[str, str]) -> None:
    assert run({"paths": paths}).paths == made


def test_a_path_that_the_router_does_not_serve_is_refused() -> None:
    with pytest.raises(Refusal, match="/v1/chat/completions") as refused:
        run({"paths": ["/collective_rpc"]})
    assert refused.value.field == "options.paths"


def test_the_program_is_found_in_its_place_before_path(tmp_path: Path) -> None:
    launcher = LAUNCHERS["command"]
    options = msgspec.convert({"argv": ["sh"]}, launcher.Options)
    mine = tmp_path / "bin" / "sh"
    mine.parent.mkdir()
    mine.touch()
    assert launcher.find([tmp_path], options) == Program((str(mine),))
    elsewhere = launcher.find([], options)
    assert elsewhere is not None
    assert elsewhere.argv[0].endswith("/sh")


def test_a_program_that_is_nowhere_is_not_found(tmp_path: Path) -> None:
    launcher = LAUNCHERS["command"]
    for argv in (["no-such-program"], [str(tmp_path / "absent")]):
        assert launcher.find([tmp_path], msgspec.convert({"argv": argv}, launcher.Options)) is None


@pytest.mark.parametrize("options", [{}, {"argv": []}, {"argv": ["x"], "ready": "health"}, {"argv": ["x"], "cwd": "/"}])
def test_faulty_options_do_not_convert(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, LAUNCHERS["command"].Options)


def test_the_public_paths_are_the_routers() -> None:
    assert set(PATHS) == PUBLIC_PATHS

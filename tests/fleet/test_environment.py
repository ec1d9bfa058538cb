"""The environment that an engine gets."""

import os
from collections.abc import Mapping

import pytest

from launchers.base import Command, KeepAlive, Probe
from router.fleet.environment import environment


def of(program: str, inherited: Mapping[str, str], own: Mapping[str, str] | None = None) -> dict[str, str]:
    command = Command(
        argv=(program,),
        env={"A": "launcher's", "B": "launcher's"},
        scrub=("GONE", "HOLE_*"),
        readiness=Probe("/"),
        liveness=Probe("/"),
        served="m",
        paths={},
        keep_alive=KeepAlive(idle=4),
    )
    return environment(inherited, command, own or {})


def test_the_models_own_comes_over_the_launchers_and_that_over_the_inherited() -> None:
    made = of("engine", {"A": "inherited", "C": "inherited", "GONE": "1", "HOLE_X": "1"}, {"B": "own"})
    assert made == {"A": "launcher's", "B": "own", "C": "inherited"}


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("/usr/bin:/bin", "/venv/bin:/usr/bin:/bin"),
        ("/mine:/venv/bin:/bin", "/mine:/venv/bin:/bin"),
        (None, f"/venv/bin:{os.defpath}"),
    ],
)
def test_the_programs_folder_leads_unless_it_is_on_path_already(path: str | None, made: str) -> None:
    assert of("/venv/bin/engine", {} if path is None else {"PATH": path})["PATH"] == made

"""Engines that take their key only as a flag: they get it, and nobody else does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launchers import with_key

KEY = "sk-secret"
# Logs its settings as SGLang does, starts a process as it does, and says what it was given.
ENGINE = """
import json, logging, multiprocessing, os, sys

def child(queue):
    queue.put(open("/proc/self/cmdline").read())

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, force=True)
    logging.info(f"settings: {sys.argv}")
    logging.info("settings: %s", {"key": sys.argv[-1]})
    logging.info("%d words", len(sys.argv))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    seen = [open("/proc/self/cmdline").read(), queue.get(), json.dumps(dict(os.environ))]
    process.join()
    print(json.dumps({"argv": sys.argv, "seen": seen}))
"""


@pytest.fixture
def done(tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    engine = tmp_path / "engine"
    engine.write_text(ENGINE)
    return subprocess.run(
        [sys.executable, "-I", "-u", with_key.__file__, "--api-key", str(engine), "serve", "--port", "1"],
        env={**os.environ, "ENGINE_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_the_engine_gets_its_key_by_the_flag(done: "subprocess.CompletedProcess[str]") -> None:
    argv = json.loads(done.stdout)["argv"]
    assert (Path(argv[0]).name, argv[1:]) == ("engine", ["serve", "--port", "1", "--api-key", KEY])


def test_nobody_else_sees_it(done: "subprocess.CompletedProcess[str]") -> None:
    seen = json.loads(done.stdout)["seen"]
    assert "spawn_main" in seen[1]
    assert not [one for one in seen if KEY in one]


def test_its_log_does_not_have_it(done: "subprocess.CompletedProcess[str]") -> None:
    assert KEY not in done.stderr
    assert done.stderr.count("***") == 2
    assert "6 words" in done.stderr

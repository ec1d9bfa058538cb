"""The wrapper of the xllamacpp wheel as a process."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import until

from demo import llama
from launchers import xllamacpp_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """It serves."""
    model = tmp_path / "chat.gguf"
    llama.write_gguf(model)
    argv = [sys.executable, "-I", "-u", xllamacpp_server.__file__, "--model", str(model), "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening")
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("main", [True, False], ids=["the main thread", "another thread"])
def test_it_ends_at_once_whichever_thread_gets_the_signal(
    server: "subprocess.Popen[str]", number: signal.Signals, main: bool
) -> None:
    wait = Path(f"/proc/{server.pid}/task/{server.pid}/wchan")
    until(lambda: wait.read_text() not in ("", "0"))  # the main thread sleeps
    threads = [int(name) for name in os.listdir(f"/proc/{server.pid}/task")]
    thread = server.pid if main else next(thread for thread in threads if thread != server.pid)
    assert ctypes.CDLL(None).tgkill(server.pid, thread, int(number)) == 0
    assert server.wait(5) == 0

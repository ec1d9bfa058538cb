"""A router that is killed leaves its engines running; the next one takes them over as they are, or ends them."""

import asyncio
import os
import signal
import socket
import threading
import urllib.request
from pathlib import Path

import pytest
from running import Up, fake, is_alive, until

from router.fleet.handle import Handle


def kill(up: Up) -> None:
    assert up.process is not None
    up.process.kill()
    up.process.wait()


def engines(up: Up) -> dict[str, int]:
    return {f"{row.model}#{row.replica}": row.pid or 0 for row in up.rows()}


def answer(up: Up, model: str = "m") -> bytes:
    """The first of it: it has no end."""
    request = urllib.request.Request(
        f"{up.address}/v1/chat/completions",
        data=b'{"model": "%b", "messages": []}' % model.encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        text: bytes = response.read1()
        return text


def test_the_next_router_adopts_every_engine_as_it_is(up: Up) -> None:
    up.ready({"m": fake("--child", "--daemon", replicas=2), "n": fake()})
    before = engines(up)
    kill(up)
    up.ready()
    assert engines(up) == before
    assert {row.restarts for row in up.rows()} == {0}
    assert answer(up)
    assert up.end() == 0
    assert up.left() == []


def test_an_engine_that_is_still_loading_is_adopted_and_gets_ready(up: Up) -> None:
    up.write({"m": fake("--load", 3)}).started()
    before = engines(up)
    kill(up)
    up.ready()
    assert engines(up) == before


def test_only_an_engine_whose_command_changed_is_replaced(up: Up) -> None:
    up.ready({"same": fake(), "other": fake()})
    before = engines(up)
    kill(up)
    up.ready({"same": fake(aliases=["also"], queue_size=7), "other": fake(env={"A": "1"})})
    after = engines(up)
    assert after["same#0"] == before["same#0"]
    assert after["other#0"] != before["other#0"]
    assert not is_alive(before["other#0"])


def test_what_is_no_longer_in_the_file_ends(up: Up) -> None:
    up.ready({"m": fake(replicas=2), "gone": fake()})
    before = engines(up)
    kill(up)
    up.ready({"m": fake()})
    assert engines(up) == {"m#0": before["m#0"]}
    until(lambda: not is_alive(before["m#1"]) and not is_alive(before["gone#0"]))


def test_an_adopted_engine_that_crashes_is_started_again_and_its_keeper_is_gone(up: Up) -> None:
    up.ready({"m": fake("--child", "--daemon")})
    old = set(up.marked())
    kill(up)
    up.ready()
    os.kill(up.row().pid or 0, signal.SIGKILL)
    up.wait_for("failed")
    up.wait_for("ready")
    assert not any(map(is_alive, old))
    assert up.row().restarts == 1


def test_an_adopted_engine_whose_keeper_is_killed_is_started_again(up: Up) -> None:
    up.ready({"m": fake("--child", "--daemon", stop_grace="300ms")})
    old = set(up.marked())
    keeper = int(Path(f"/proc/{up.row().pid}/stat").read_text().rpartition(")")[2].split()[1])
    kill(up)
    up.ready()
    os.kill(keeper, signal.SIGKILL)
    up.wait_for("failed")
    up.wait_for("ready")
    assert not any(map(is_alive, old))


def test_without_a_next_router_the_engines_end_after_the_orphan_grace(up: Up) -> None:
    up.ready({"m": fake("--child", "--daemon", "--deaf", stop_grace="200ms")}, orphan_grace="1s")
    up.look()
    kill(up)
    until(lambda: not up.marked())
    assert up.cli("down").returncode == 1  # nothing is left, but for the killed router's socket
    assert up.left() == []


def test_with_no_orphan_grace_the_engines_end_with_their_router(up: Up) -> None:
    up.ready({"m": fake(), "n": fake()}, orphan_grace=0)
    up.look()
    kill(up)
    until(lambda: not up.marked())
    assert up.cli("down").returncode == 1  # nothing is left, but for the killed router's socket
    assert up.left() == []


def test_a_router_that_comes_late_within_the_grace_saves_them(up: Up) -> None:
    up.ready({"m": fake()}, orphan_grace="6s")
    before = engines(up)
    for _ in range(3):
        kill(up)
        up.ready()
    assert engines(up) == before


def test_down_ends_what_a_killed_router_left(up: Up) -> None:
    up.ready({"m": fake("--child", "--daemon"), "n": fake()})
    up.look()
    kill(up)
    done = up.cli("down")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ended 2 engines that an earlier one had left" in done.stdout
    assert up.left() == []
    assert up.cli("down").returncode == 1


@pytest.mark.parametrize("lost", ["socket", "folder"])
def test_engines_that_cannot_be_spoken_to_any_more_are_ended_and_started_anew(up: Up, lost: str) -> None:
    up.ready({"m": fake("--child", "--daemon")})
    old = set(up.marked())
    kill(up)
    for path in (up.state_dir / "run").iterdir():
        path.unlink()
    if lost == "folder":
        (up.state_dir / "run").rmdir()
    up.ready()
    assert not any(map(is_alive, old))
    assert answer(up)


def test_no_descriptor_is_left_over_by_adoptions_and_the_crashes_after_them(up: Up) -> None:
    up.ready({"m": fake(), "n": fake()})
    kill(up)
    up.ready()

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{up.pid}/fd"))

    adopted = descriptors()
    for _ in range(3):
        up.crash()
    until(lambda: descriptors() <= adopted + 1)


class Forger:
    """Listens where a keeper would, and says this to whoever connects."""

    def __init__(self, path: Path, said: bytes) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._said = said
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            with wire:
                wire.sendall(self._said * 2)

    def close(self) -> None:
        self._listener.close()


STATUS = b'{"tree": [], "last_line": "", "started": 1.0, "state": "running", "engine": 1, "grace": 1, "note": null}\n'


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"garbage\n",
        b"7\n",
        b"[" * 60_000 + b"\n",
        b'{"tree": [], "note": {}}\n',
        STATUS.replace(b"1.0", b'"x"'),
        STATUS.replace(b'"engine": 1', b'"engine": "x"'),
        STATUS,
    ],
    ids=["nothing", "no JSON", "a number", "nested", "no state", "no time", "no pid", "no note"],
)
def test_what_is_no_keeper_of_ours_holds_nobody_up(up: Up, said: bytes) -> None:
    """In a process that is not this one: who does not answer as a keeper is killed."""
    run = up.state_dir / "run"
    run.mkdir(parents=True)
    for folder in (up.state_dir, run):
        folder.chmod(0o700)
    child = os.fork()
    if child == 0:
        Forger(run / "0123456789abcdef.sock", said)
        signal.pause()
    try:
        until(lambda: list(run.iterdir()))
        up.ready({"m": fake()})
        assert answer(up)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        (run / "0123456789abcdef.sock").unlink(missing_ok=True)


def test_a_folder_where_a_keepers_socket_would_be_holds_nobody_up(up: Up) -> None:
    (up.state_dir / "run/x.sock").mkdir(parents=True)
    up.state_dir.chmod(0o700)
    up.ready({"m": fake()})
    (up.state_dir / "run/x.sock").rmdir()


def test_the_end_of_a_process_is_noticed_with_no_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "1000")
        handle = Handle(process.pid)
        monkeypatch.setattr(os, "dup", lambda _fd: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        ended = asyncio.ensure_future(handle.ended())
        await asyncio.sleep(0)
        process.kill()
        async with asyncio.timeout(10):
            await ended
        assert not handle.alive
        handle.close()
        await process.wait()

    asyncio.run(run())

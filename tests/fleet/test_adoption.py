"""A router that is killed leaves its engines running; the next one takes them over as they are, or ends them."""

import os
import signal
import urllib.request
from pathlib import Path

import pytest
from running import Up, fake, is_alive, until


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

    def crash() -> None:
        before = {row.model: row.restarts for row in up.rows()}
        for row in up.rows():
            os.kill(row.pid or 0, signal.SIGKILL)
        until(lambda: all(row.restarts > before[row.model] for row in up.rows()))
        up.wait_for("ready")

    adopted = descriptors()
    for _ in range(3):
        crash()
    until(lambda: descriptors() <= adopted + 1)

"""A running router does what the changed file says, and nothing else."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import Client, Steady, Stream, ask, asks
from running import DEADLINE, Up, fake, is_alive, until

from router.fleet.rows import Row

ONE, OTHER = "the-first-of-the-keys", "the-second-of-the-keys"


def engines(up: Up) -> dict[str, int]:
    return {f"{row.model}#{row.replica}": row.pid or 0 for row in up.rows() if row.state == "ready"}


def rows(up: Up, state: str, model: str = "m") -> list[Row]:
    up.look()
    return [row for row in up.rows() if (row.model, row.state) == (model, state) and row.pid]


def apply(up: Up, models: dict[str, Any], **settings: Any) -> None:
    """It has begun."""
    up.client.apply(up.write(models, **settings).file)


def settled(up: Up, *names: str) -> dict[str, int]:
    """The engines once they are all that there is."""
    until(
        lambda: {f"{row.model}#{row.replica} {row.state}" for row in up.rows()} == {f"{name} ready" for name in names}
    )
    up.look()
    return engines(up)


class Replacing:
    """m serves, and the engine that is to follow it starts and does not get ready before `go`."""

    def __init__(self, up: Up, *flags: object) -> None:
        self.up, self.flags = up, flags
        self._gate = up.folder / "gate"
        self.models = {"m": self.model(), "n": fake("--short")}
        up.ready(self.models)
        before = engines(up)
        self.old, self.other = before["m#0"], before["n#0"]
        self.new = self.apply(self.model("--gate", self._gate))

    def model(self, *flags: object, **fields: Any) -> dict[str, Any]:
        return fake("--short", *self.flags, *flags, stop_grace="1s", **fields)

    def apply(self, model: dict[str, Any]) -> int:
        """The pid of the engine that starts, or has by now."""
        known = {row.pid for row in self.up.rows()}
        self.models = {**self.models, "m": model}
        apply(self.up, self.models)
        return until(lambda: [row.pid for row in self.up.rows() if row.pid and row.pid not in known])[0]

    def go(self) -> None:
        self._gate.touch()


def test_an_engine_that_is_replaced_serves_until_the_new_one_is_ready_and_no_request_is_lost(up: Up) -> None:
    end = up.folder / "end"
    replacing = Replacing(up, "--end", end)
    stream = Stream(up.address)
    with Steady(up.address) as load:
        assert set(load.pids) == {replacing.old}
        assert {row.state for row in up.rows()} == {"ready", "starting"}
        replacing.go()
        load.answered_by(replacing.new)
        until(lambda: rows(up, "draining"))
        assert {ask(up.address) for _ in range(10)} == {(200, b"%d" % replacing.new)}
    assert not load.faults, load.faults
    assert set(load.pids) == {replacing.old, replacing.new}
    stream.more()
    assert is_alive(replacing.old)
    end.touch()
    assert stream.ended()
    assert settled(up, "m#0", "n#0") == {"m#0": replacing.new, "n#0": replacing.other}
    until(lambda: not is_alive(replacing.old))


def test_apply_returns_when_the_new_engine_is_ready_whatever_the_old_one_still_does(up: Up) -> None:
    end = up.folder / "end"
    up.ready({"m": fake("--end", end)})
    old = up.row().pid or 0
    stream = Stream(up.address)
    done = up.write({"m": fake("--end", end, env={"A": "s3cret"})}).cli("apply")
    assert (done.returncode, done.stderr) == (0, "")
    assert "± replace m  env.A (new engines)" in done.stdout
    assert "s3cret" not in done.stdout
    assert [row.pid for row in rows(up, "draining")] == [old]
    (new,) = rows(up, "ready")
    assert new.pid != old
    stream.more()
    end.touch()
    assert stream.ended()


def test_a_request_that_outlasts_retire_timeout_is_ended_as_broken(up: Up) -> None:
    up.ready({"m": fake(retire_timeout="300ms")})
    stream = Stream(up.address)
    apply(up, {"m": fake(env={"A": "1"}, retire_timeout="300ms")})
    stream.join(DEADLINE)
    assert b'data: {"error"' in stream.text
    settled(up, "m#0")


def test_replicas_come_and_go_and_the_others_stay(up: Up) -> None:
    end = up.folder / "end"
    up.ready({"m": fake("--end", end)})
    first = engines(up)
    apply(up, {"m": fake("--end", end, replicas=3)})
    three = settled(up, "m#0", "m#1", "m#2")
    assert three["m#0"] == first["m#0"]
    streams = [Stream(up.address) for _ in range(3)]
    apply(up, {"m": fake("--end", end)})
    until(lambda: len(rows(up, "draining")) == 2)
    for stream in streams:
        stream.more()
    end.touch()
    assert all(stream.ended() for stream in streams)
    assert settled(up, "m#0") == first


def test_a_model_comes_and_nothing_else_changes(up: Up) -> None:
    up.ready({"m": fake("--short")})
    before = engines(up)
    assert asks(up.address, "n") == 404
    apply(up, {"n": fake("--short"), "m": fake("--short")})
    assert asks(up.address, "n") == 200  # it waits until it is ready
    assert settled(up, "m#0", "n#0")["m#0"] == before["m#0"]


def test_a_model_that_goes_is_not_found_at_once_and_its_running_stream_comes_to_its_end(up: Up) -> None:
    end = up.folder / "end"
    up.ready({"m": fake("--end", end), "n": fake("--short")})
    before = engines(up)
    stream = Stream(up.address)
    apply(up, {"n": fake("--short")})
    assert asks(up.address) == 404
    assert asks(up.address, "n") == 200
    stream.more()
    end.touch()
    assert stream.ended()
    assert settled(up, "n#0") == {"n#0": before["n#0"]}
    until(lambda: not is_alive(before["m#0"]))


def test_who_waits_for_a_model_that_goes_is_told_so(up: Up) -> None:
    up.write({"m": fake("--gate", up.folder / "never"), "n": fake("--short")}).started()
    with Steady(up.address, "n", clients=1) as load:
        client = Client(up.address)
        client.connection.request("POST", "/v1/chat/completions", '{"model": "m", "messages": []}', client.headers)
        load.more()  # so the one before has come as well
        apply(up, {"n": fake("--short")})
        with client.connection.getresponse() as answer:
            assert answer.status == 404
            assert b"model_not_found" in answer.read()
        client.connection.close()
    assert not load.faults, load.faults


def test_a_model_that_comes_back_while_its_old_engine_finishes_gets_a_new_one(up: Up) -> None:
    end = up.folder / "end"
    models = {"m": fake("--short", "--end", end), "n": fake("--short")}
    up.ready(models)
    old = engines(up)["m#0"]
    stream = Stream(up.address)
    apply(up, {"n": models["n"]})
    until(lambda: rows(up, "draining"))
    apply(up, models)
    status, pid = ask(up.address)
    assert (status, is_alive(old)) == (200, True)
    assert int(pid) != old
    end.touch()
    assert stream.ended()
    assert settled(up, "m#0", "n#0")["m#0"] == int(pid)


def test_keys_change_at_once_also_for_connections_that_are_open(up: Up) -> None:
    up.ready({"m": fake("--short")}, keys=[{"name": "one", "key": ONE}])
    before = engines(up)
    one = Client(up.address, key=ONE)
    assert [one.ask()[0] for _ in range(3)] == [200, 200, 200]
    assert asks(up.address, key=OTHER) == 401
    apply(up, {"m": fake("--short")}, keys=[{"name": "other", "key": OTHER}])
    assert one.ask()[0] == 401
    assert asks(up.address, key=OTHER) == 200
    assert engines(up) == before
    one.connection.close()


def test_limits_of_bodies_and_queues_change_at_once(up: Up) -> None:
    end, one_at_a_time = up.folder / "end", {"concurrency": 1}
    up.ready({"m": fake("--short", "--end", end, options=one_at_a_time)})
    before = engines(up)
    kept = Client(up.address)
    assert kept.ask(padding="x" * 2000)[0] == 200
    stream = Stream(up.address)
    apply(up, {"m": fake("--short", "--end", end, options=one_at_a_time, queue_timeout=0)}, max_body="1KiB")
    assert kept.ask(padding="x" * 2000)[0] == 413
    status, body = ask(up.address)
    assert (status, b"model_busy" in body) == (503, True)
    end.touch()
    assert stream.ended()
    assert asks(up.address) == 200
    assert engines(up) == before
    kept.connection.close()


def test_aliases_change_at_once(up: Up) -> None:
    up.ready({"m": fake("--short", aliases=["before"])})
    engine = engines(up)
    assert [asks(up.address, name) for name in ("before", "after")] == [200, 404]
    apply(up, {"m": fake("--short", aliases=["after"])})
    assert [asks(up.address, name) for name in ("before", "after")] == [404, 200]
    assert engines(up) == engine


def test_a_server_elsewhere_changes_its_address_and_what_runs_there_comes_to_its_end(up: Up) -> None:
    end = up.folder / "end"
    models = {"a": fake("--short", "--end", end), "b": fake("--short")}
    up.ready(models)
    before, where = engines(up), {row.model: row.address for row in up.rows()}

    def remote(model: str) -> dict[str, Any]:
        return {"r": {"url": f"http://{where[model]}/v1", "upstream_model": model}}

    apply(up, {**models, **remote("a")})
    assert ask(up.address, "r") == (200, b"%d" % before["a#0"])
    stream = Stream(up.address, "r")
    with Steady(up.address, "r") as load:
        apply(up, {**models, **remote("b")})
        assert {ask(up.address, "r") for _ in range(10)} == {(200, b"%d" % before["b#0"])}
        load.answered_by(before["b#0"])
    assert not load.faults, load.faults
    stream.more()
    end.touch()
    assert stream.ended()
    assert engines(up).items() >= before.items()


def test_a_file_with_faults_changes_nothing_and_all_of_them_are_told(up: Up) -> None:
    up.ready({"m": fake("--short"), "n": fake("--short")})
    before = engines(up)
    done = up.write({"m": fake("--short", replicas=0), "n": {"engine": "nothing"}}, max_body="much").cli("apply")
    assert (done.returncode, done.stdout) == (2, "")
    for where in ("models.m.replicas", "models.n.engine", "max_body"):
        assert where in done.stderr
    assert done.stderr.endswith("nothing has changed\n")
    assert engines(up) == before
    assert (asks(up.address), asks(up.address, "n")) == (200, 200)


def test_another_address_is_refused_with_all_else_that_the_file_says(up: Up) -> None:
    up.ready({"m": fake("--short")})
    before = engines(up)
    up.write({"m": fake("--short", aliases=["also"])}, listen="127.0.0.1:1")
    done = up.cli("apply")
    assert (done.returncode, done.stdout) == (2, "")
    assert "`listen` cannot change while the router runs: put it back, or run `router up --takeover`" in done.stderr
    assert (asks(up.address), asks(up.address, "also")) == (200, 404)
    assert engines(up) == before
    planned = up.cli("plan")
    assert planned.returncode == 1
    assert "~ update  m  aliases (its engines go on)" in planned.stdout
    assert "cannot be applied: `listen` cannot change" in planned.stderr


def test_a_replacement_that_never_gets_ready_leaves_the_old_engine_and_apply_says_why(up: Up) -> None:
    up.ready({"m": fake("--short")})
    before = engines(up)
    with Steady(up.address) as load:
        done = up.write({"m": fake("--short", "--exit", 3)}).cli("apply")
        assert done.returncode == 1
        assert "m#0: exited with status 3: exiting with 3; it is tried again, see `router ps`" in done.stderr
        until(lambda: any(row.restarts >= 1 for row in up.rows()))
        assert engines(up) == before
        load.more()
        assert up.write({"m": fake("--short")}).cli("apply").returncode == 0
    assert not load.faults, load.faults
    assert settled(up, "m#0") == before


def test_a_file_that_mends_an_engine_that_fails_is_applied_without_a_word_of_the_old_failure(up: Up) -> None:
    up.write({"m": fake("--short", "--exit", 3)}).start()
    until(lambda: up.rows() and up.row().restarts >= 2)
    up.wait_for("failed")
    done = up.write({"m": fake("--short")}).cli("apply")
    assert (done.returncode, done.stderr) == (0, "")
    settled(up, "m#0")
    assert asks(up.address) == 200


def test_an_engine_that_never_got_ready_is_not_kept_beside_the_one_that_follows_it(up: Up) -> None:
    up.write({"m": fake("--gate", up.folder / "never")}).started()
    old = up.row().pid or 0
    apply(up, {"m": fake("--short")})
    settled(up, "m#0")
    assert not is_alive(old)


def test_what_is_applied_while_a_replacement_starts_takes_its_place(up: Up) -> None:
    replacing = Replacing(up)
    with Steady(up.address) as load:
        latest = replacing.apply(replacing.model(env={"LATEST": "1"}))
        load.answered_by(latest)
    assert not load.faults, load.faults
    assert set(load.pids) <= {replacing.old, latest}
    assert settled(up, "m#0", "n#0") == {"m#0": latest, "n#0": replacing.other}
    assert not is_alive(replacing.new)


def test_the_same_applied_again_while_a_replacement_starts_does_not_begin_it_anew(up: Up) -> None:
    replacing = Replacing(up)
    apply(up, {**replacing.models, "n": fake("--short", aliases=["also"])})
    apply(up, {**replacing.models, "m": {**replacing.models["m"], "queue_size": 7}})
    replacing.go()
    assert settled(up, "m#0", "n#0") == {"m#0": replacing.new, "n#0": replacing.other}


def test_what_was_there_before_applied_again_keeps_the_engine_that_runs(up: Up) -> None:
    replacing = Replacing(up)
    with Steady(up.address) as load:
        apply(up, {**replacing.models, "m": replacing.model()})
        assert settled(up, "m#0", "n#0") == {"m#0": replacing.old, "n#0": replacing.other}
    assert not load.faults, load.faults
    assert set(load.pids) == {replacing.old}
    until(lambda: not is_alive(replacing.new))


def test_a_model_that_goes_while_its_replacement_starts_leaves_no_engine(up: Up) -> None:
    replacing = Replacing(up)
    apply(up, {"n": replacing.models["n"]})
    assert settled(up, "n#0") == {"n#0": replacing.other}
    until(lambda: not is_alive(replacing.new) and not is_alive(replacing.old))


@pytest.mark.parametrize("how", [signal.SIGINT, "down", "now"])
def test_the_end_in_the_middle_of_a_replacement_leaves_nothing(up: Up, how: signal.Signals | str) -> None:
    Replacing(up, "--child")
    up.look()
    if isinstance(how, signal.Signals):
        assert up.end(how) == 0
    else:
        assert up.cli("down", *["--now"] * (how == "now")).returncode == 0
    assert up.left() == []


def test_a_router_that_is_killed_in_the_middle_of_a_replacement_is_followed_by_one_with_one_engine(up: Up) -> None:
    replacing = Replacing(up)
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    replacing.go()
    up.start()
    assert settled(up, "m#0", "n#0") == {"m#0": replacing.new, "n#0": replacing.other}
    until(lambda: not is_alive(replacing.old))
    assert asks(up.address) == 200


def hang_up(up: Up) -> None:
    os.kill(up.pid, signal.SIGHUP)


def test_sighup_applies_the_file(up: Up) -> None:
    up.ready({"m": fake("--short")})
    before = engines(up)
    up.write({"m": fake("--short"), "n": fake("--short")})
    hang_up(up)
    assert settled(up, "m#0", "n#0")["m#0"] == before["m#0"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"max_body": "much"}, "max_body"), ({"state_dir": "/tmp/er-elsewhere"}, "`state_dir` cannot change")],
)
def test_what_cannot_be_applied_on_sighup_is_logged_and_changes_nothing(
    up: Up, settings: dict[str, Any], words: str
) -> None:
    up.ready({"m": fake("--short")})
    before = engines(up)
    up.write({"m": fake("--short", aliases=["also"]), "n": fake()}, **settings)
    hang_up(up)
    until(lambda: "is not applied, and nothing has changed" in up.text() and words in up.text())
    assert engines(up) == before
    assert (asks(up.address), asks(up.address, "also")) == (200, 404)


def test_many_sighups_are_one_change(up: Up) -> None:
    up.ready({"m": fake("--short")})
    up.write({"m": fake("--short", env={"A": "1"})})
    with Steady(up.address) as load:
        for _ in range(5):
            hang_up(up)
        until(lambda: up.text().count("applied ") >= 1 and len(up.rows()) == 1 and len(set(load.pids)) == 2)
    assert not load.faults, load.faults
    settled(up, "m#0")


@pytest.fixture
def terminal(up: Up) -> Callable[[], int]:
    """Starts `router up` on a terminal; the end of that which a person would hold."""

    def start() -> int:
        master, slave = pty.openpty()
        argv = [sys.executable, "-m", "router", "up", "-c", str(up.file)]
        up.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        return master

    return start


def test_sighup_applies_the_file_as_long_as_the_terminal_is_there_and_ends_the_router_when_it_has_gone(
    up: Up, terminal: Callable[[], int]
) -> None:
    up.write({"m": fake("--short")})
    master = terminal()
    up.wait_for("ready")
    until(lambda: b"Ctrl-C stops everything." in os.read(master, 65536))
    up.write({"m": fake("--short"), "n": fake("--short")})
    hang_up(up)
    settled(up, "m#0", "n#0")
    os.close(master)
    hang_up(up)  # as the terminal is not its controlling one, nobody else says so
    assert up.process is not None
    assert up.process.wait(DEADLINE) == 0
    assert up.left() == []


def test_plan_prints_what_apply_would_do_and_does_nothing(up: Up) -> None:
    up.ready({"m": fake("--short"), "n": fake(), "goes": fake()})
    before = engines(up)
    up.write({"m": fake(aliases=["also"]), "n": fake(replicas=2), "comes": fake()}, max_body="1KiB")
    done = up.cli("plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "± replace m      aliases, options.argv (new engines)",
        "~ scale   n      replicas (replicas come or go, the others go on)",
        "+ add     comes",
        "- remove  goes",
        "settings: max_body",
    ]
    assert engines(up) == before
    assert asks(up.address, "comes") == 404


def test_plan_without_a_running_router_is_what_up_would_start(up: Up) -> None:
    done = up.write({"m": fake(), "n": fake()}).cli("plan")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["no router runs; `router up` would start:", "+ add     m", "+ add     n"]
    assert up.write({"m": {"engine": "nothing"}}).cli("plan").returncode == 2


def test_apply_without_a_running_router_says_so(up: Up) -> None:
    done = up.write({"m": fake()}).cli("apply")
    assert done.returncode == 1
    assert "no router runs in" in done.stderr
    assert not Path(up.state_dir).exists()


def test_apply_without_a_wait_returns_before_the_new_engine_is_ready(up: Up) -> None:
    gate = up.folder / "gate"
    up.ready({"m": fake("--short")})
    assert up.write({"m": fake("--short", "--gate", gate)}).cli("apply", "--no-wait").returncode == 0
    until(lambda: rows(up, "starting"))
    gate.touch()
    settled(up, "m#0")

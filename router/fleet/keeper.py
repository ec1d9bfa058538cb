"""The keeper of one engine run: starts it, writes its log, answers for it on a unix socket, and ends all of it.

Run as a script, `python -I -S keeper.py`, with one JSON object on stdin (see `Keeper`); it answers one JSON line on
stdout: `{"keeper": pid, "engine": pid}`, or `{"error": text}` and exit status 1. From then on it speaks
newline-delimited JSON on its socket (see `Keeper.answer`). It outlives the router that started it, so that a new router
can adopt a running engine.

It is the subreaper of the engine: whatever session, group or double fork, every process the engine ever starts ends up
below the keeper, and having no child left (ECHILD) proves that all of them are gone. argv and env hold secrets: neither
is ever printed or logged.

Standard library only, and light imports: there is one such process per engine. It takes 12 MiB; subprocess or asyncio
would cost more than all the rest.
"""

import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Container
from contextlib import suppress

sys.path.append(os.path.abspath(f"{__file__}/../../.."))  # python -I leaves it out

from router.fleet.keeper_log import TAIL, Log, Output
from router.fleet.keeper_server import Client, Server
from router.fleet.keeper_shm import SharedMemory
from router.fleet.keeper_tree import become_subreaper, children, descendants, is_tracker, read_stat, reap, send, spawn

CHUNK = 65536  # bytes read from the engine at once
DRAIN = 32  # chunks taken at the end: more than a pipe holds, and an end for what could not be ended
SHM_EVERY = 5.0  # seconds between two looks at the tree's shared memory
TRACKER_WAIT = 1.0  # seconds for multiprocessing's resource_tracker to clean up when all others are gone
CHASES = 50  # looks at the children in a round of SIGKILL
KILL_EVERY = 0.05  # seconds between two rounds of SIGKILL when nothing dies meanwhile
GREETING = 2.0  # seconds for the router to ask for the first time, before an engine that ended at once is reported
FAREWELL = 1.0  # seconds for the clients to take the last replies
LONGEST_NAP = 3600.0  # seconds
NEVER = float("inf")


def seconds(value: object) -> float:
    """A time span of the protocol. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError("not a number of seconds")
    return float(value)


class Keeper:
    """One run, from start to the last process. All that changes about it is in `__init__`; `step` alone decides.

    | why | state in `status` | what happens |
    |---|---|---|
    | None | running | until someone stops it, the lease runs out, or the engine exits |
    | stop, lease, signal | stopping | SIGTERM the leader; once it is gone the others; after the grace SIGKILL |
    | exit | exited | the leader ended by itself: SIGTERM the others; after the grace SIGKILL |

    The spec: argv, env (complete), cwd, socket, log, log_max_bytes, log_keep, in seconds lease, orphan_grace, grace and
    kill_wait, and a note, which only routers understand. Raises OSError, KeyError, ValueError or TypeError; then
    nothing was started.

    Who renews the lease holds the engine. It lives for `lease` after the last renewal, as its router may only be
    halted, and for `orphan_grace` after the last holder's connection has ended, as then its router has.
    """

    def __init__(self, spec: dict[str, object]) -> None:
        self.lease, self.orphan_grace = seconds(spec["lease"]), seconds(spec["orphan_grace"])
        self.grace, self.kill_wait = seconds(spec["grace"]), seconds(spec["kill_wait"])
        self.note = spec["note"]
        self.why: str | None = None
        self.exit: int | None = None
        self.empty = False  # no descendant is left
        self.asked = False  # by anyone, so that there is somebody to tell the end
        self.woken = False  # by a signal, or by the beginning of the end: there may be something to decide
        self.terminated = False  # a signal asked for the end
        self.others_told = False  # the leader is gone, and the others have had their SIGTERM
        self.grace_end = self.kill_end = self.next_kill = NEVER
        self.alone_since = NEVER  # since when none but resource_trackers is left
        self.killed: set[tuple[int, int]] = set()
        self.result: dict[str, object] | None = None
        self.selector = selectors.DefaultSelector()
        become_subreaper()
        self._listen_to_signals()
        self.server = Server(os.path.abspath(str(spec["socket"])), self.selector, self.answer, self._left)
        try:
            self._start(spec)
        except BaseException:
            self.server.close()
            raise
        self.started = time.time()
        self.lease_end = time.monotonic() + self.lease
        self.next_note = time.monotonic() + SHM_EVERY
        self.greeting_end = time.monotonic() + GREETING

    def _listen_to_signals(self) -> None:
        """Signals wake the loop through a pipe; SIGTERM and SIGINT ask for the end."""
        self.waker, writer = os.pipe()
        os.set_blocking(self.waker, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "terminated", True))
        self.selector.register(self.waker, selectors.EVENT_READ, self._on_signal)

    def _start(self, spec: dict[str, object]) -> None:
        argv, env = spec["argv"], spec["env"]
        if not isinstance(argv, list) or not argv or not isinstance(env, dict):
            raise ValueError("argv is a list of text, env an object")
        log = os.path.abspath(str(spec["log"]))
        self.log = Log(log, int(str(spec["log_max_bytes"])), int(str(spec["log_keep"])))
        self.output = Output(self.log)
        self.shm = SharedMemory()
        self.engine, self.pipe = spawn(argv, env, str(spec["cwd"]))
        self.selector.register(self.pipe, selectors.EVENT_READ, self._on_output)

    def run(self) -> None:
        """Returns when the tree is gone and the clients have been told, or have had the time."""
        while self.result is None:
            self._turn(0 if self.woken else self._due() - time.monotonic())
            now = time.monotonic()
            if self.woken or now >= self._due():
                self.woken = False
                self.step(now)
        end = time.monotonic() + FAREWELL
        while any(client.outbox for client in self.server.clients) and time.monotonic() < end:
            self._turn(end - time.monotonic())

    def fail(self, error: BaseException) -> None:
        """The last resort, for a fault of the keeper's own: an engine that nobody keeps must not stay."""
        end = time.monotonic() + self.kill_wait
        while not reap()[1] and time.monotonic() < end:
            for pid in children() or descendants():
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(KILL_EVERY)
        self.log.note(f"the keeper failed and killed the engine: {type(error).__name__}")
        self.server.close()

    def answer(self, client: Client, request: dict[str, object]) -> None:
        """One reply a request: status, note, renew, tail at once; stop when all is gone; else an error."""
        self.asked = self.woken = True
        try:
            match request.get("op"):
                case "status":
                    client.send(self._status())
                case "note":
                    client.send({"note": self.note})
                case "tail":
                    client.send({"tail": self.output.tail()})
                case "renew":
                    self.lease = seconds(request.get("lease", self.lease))
                    self.orphan_grace = seconds(request.get("orphan_grace", self.orphan_grace))
                    self.lease_end = time.monotonic() + self.lease
                    client.holds = True
                    client.send({"ok": True, "shm": sorted(self.shm.seen)})
                case "stop":
                    self._stop(client, seconds(request.get("grace", self.grace)))
                case _:
                    client.send({"error": "unknown op: it is one of status, note, renew, tail, stop"})
        except ValueError as error:
            client.send({"error": str(error)})

    def _left(self, client: Client) -> None:
        """A connection has ended."""
        if client.holds and not any(other.holds for other in self.server.clients):
            self.lease_end = min(self.lease_end, time.monotonic() + self.orphan_grace)
            self.woken = True

    def _status(self) -> dict[str, object]:
        living = descendants()
        self.shm.note(living)
        return {
            "keeper": os.getpid(),
            "engine": self.engine,
            "state": "running" if self.why is None else "exited" if self.why == "exit" else "stopping",
            "exit": self.exit,
            "started": self.started,
            "grace": self.grace,
            "lease_left": max(0.0, round(self.lease_end - time.monotonic(), 3)),
            "last_line": self.output.last_line(),
            "tree": sorted(living),
            "shm": sorted(self.shm.seen),
        }

    def _stop(self, client: Client, grace: float) -> None:
        if self.result is not None:
            client.send(self.result)
            return
        client.owed += 1
        self._end("stop", grace)

    def _end(self, why: str, grace: float) -> None:
        """Begins the end, or shortens the grace of one that has begun."""
        self.grace_end = min(self.grace_end, time.monotonic() + grace)
        self.woken = True
        if self.why is not None:
            return
        self.why = why
        living = descendants()
        self.shm.note(living)
        if self.engine in living and self.exit is None:
            self._terminate({self.engine: living[self.engine]})

    @staticmethod
    def _terminate(processes: dict[int, int]) -> None:
        """SIGTERM, and SIGCONT so that a stopped process hears it."""
        for pid, start in processes.items():
            send(pid, start, signal.SIGTERM, signal.SIGCONT)

    def _kill(self, processes: dict[int, int], spared: Container[int] = ()) -> None:
        """One round. What forks and exits faster than /proc can be read is caught among the children it becomes."""
        self.killed |= {(pid, start) for pid, start in processes.items() if send(pid, start, signal.SIGKILL)}
        for _ in range(CHASES):
            self._reap()
            if self.empty:
                break
            for pid in children():
                with suppress(OSError):
                    _, start, alive = read_stat(pid)
                    if alive and pid not in spared and send(pid, start, signal.SIGKILL):
                        self.killed.add((pid, start))

    def _due(self) -> float:
        """When something has to be decided, on the monotonic clock."""
        due = [time.monotonic() + LONGEST_NAP, self.output.flush_at]
        if self.why is None:
            due += [self.lease_end, self.next_note]
        elif self.empty:
            due.append(self.greeting_end)
        elif self.kill_end == NEVER:
            due += [self.grace_end, self.alone_since + TRACKER_WAIT]
        else:
            due.append(self.next_kill)
        return min(due)

    def step(self, now: float) -> None:
        """Reaps, and does what is due."""
        if now >= self.output.flush_at:
            self.output.flush()
        self._reap()
        if self.terminated:
            self.terminated = False
            self.log.note("ending the engine: the keeper was told to end")
            self._end("signal", self.grace)
        if self.why is None:
            self._step_running(now)
        elif self.empty:
            if self.asked or self.why != "exit" or now >= self.greeting_end:
                self._finish([])
        else:
            self._step_ending(now)

    def _reap(self) -> None:
        ended, self.empty = reap()
        if self.exit is None and self.engine in ended:
            self.exit = ended[self.engine]
            self._end("exit", self.grace)

    def _step_running(self, now: float) -> None:
        if now >= self.lease_end:
            self.log.note("ending the engine: no router renewed its lease")
            self._end("lease", self.grace)
        elif now >= self.next_note:
            self.shm.note(descendants())
            self.next_note = now + SHM_EVERY

    def _step_ending(self, now: float) -> None:
        """Nobody is killed before the grace is over, and resource_trackers only when they have had theirs."""
        living = descendants()
        others = {pid: start for pid, start in living.items() if not is_tracker(pid)}
        self.alone_since = NEVER if others else min(self.alone_since, now)
        if self.exit is not None and not self.others_told:
            self.others_told = True
            self._terminate(others)
        trackers_due = now >= min(self.alone_since + TRACKER_WAIT, self.kill_end - self.kill_wait / 2)
        if self.kill_end == NEVER and (now >= self.grace_end or trackers_due):
            self.shm.note(living)
            self.kill_end = now + self.kill_wait
        if self.kill_end < NEVER:
            spared = () if trackers_due else living.keys() - others.keys()
            self._kill(living if trackers_due else others, spared)
            self.next_kill = now + KILL_EVERY
        if now >= self.kill_end:
            self._finish(sorted(descendants()))

    def _finish(self, left: list[int]) -> None:
        """Tells everyone. The socket's path is free before that: who reads a reply may start the next run at once."""
        self._drain()
        self.shm.sweep()
        if left:
            self.log.note(f"could not end the processes {left}")
        self.result = {"exit": self.exit, "killed": len(self.killed), "left": left}
        event = {"event": "exit", "reason": self.why, "tail": self.output.tail()[-TAIL // 2 :], **self.result}
        self.server.close()
        for client in list(self.server.clients):
            for _ in range(client.owed):
                client.send(self.result)
            if not client.owed and self.why != "stop":
                client.send(event)

    def _turn(self, timeout: float) -> None:
        for key, mask in self.selector.select(max(0.0, timeout)):
            key.data(mask)

    def _on_signal(self, _mask: int) -> None:
        self.woken = True
        with suppress(BlockingIOError):
            while os.read(self.waker, 4096):
                pass

    def _on_output(self, _mask: int) -> bool:
        """One read of the engine's output; whether there may be more."""
        try:
            data = os.read(self.pipe, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.selector.unregister(self.pipe)
            os.close(self.pipe)
            self.pipe = -1
            return False
        self.output.feed(data, time.monotonic())
        return True

    def _drain(self) -> None:
        """Takes what the tree printed last."""
        for _ in range(DRAIN):
            if self.pipe < 0 or not self._on_output(0):
                break
        self.output.close()


def main() -> int:
    """Starts, answers on stdout, lets go of stdin, stdout and stderr, and keeps."""
    try:
        keeper = Keeper(json.loads(sys.stdin.buffer.read()))
    except Exception as error:
        reply({"error": str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"})
        return 1
    reply({"keeper": os.getpid(), "engine": keeper.engine})
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    try:
        keeper.run()
    except BaseException as error:
        keeper.fail(error)
        return 1
    return 0


def reply(message: dict[str, object]) -> None:
    """One line on stdout. If nobody reads it the engine runs on: a router adopts it, or the lease ends it."""
    with suppress(OSError):
        os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())

"""`router up` as its user runs it: a process with one YAML file, real engines below it, and nothing left at the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

HERE = Path(__file__).parent
MARK = "ENGINE_ROUTER_RUN"
READY_WITHIN = 180.0
"""Seconds: engines that take 25 s alone, all at once on two cores."""
GONE_WITHIN = 45.0
"""Seconds from the signal to the end: the engines' own grace (30 s) and then some."""


def wait_until(what: str, check: Callable[[], Any], within: float, every: float = 0.02) -> float:
    """Polls until `check` is true; the seconds that took. Fails with `what` after `within` seconds."""
    start = time.monotonic()
    while not check():
        if time.monotonic() - start > within:
            pytest.fail(f"not within {within:g} s: {what}")
        time.sleep(every)
    return time.monotonic() - start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Engine:
    """The bare engine below the router: where it listens, and the key that the router gave it."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.model: str = row["model"]
        self.pid: int = row["pid"]
        self.port = int(row["address"].rpartition(":")[2])
        names = ("LLAMA_API_KEY", "VLLM_API_KEY", "INFINITY_API_KEY", "API_KEY")
        environ = psutil.Process(self.pid).environ()
        self.key = next(environ[name] for name in names if name in environ)

    @property
    def client(self) -> openai.OpenAI:
        return client(self.port, self.key)

    def get(self, path: str) -> Any:
        """The answer to a GET: of JSON its value, else its text."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"authorization": f"Bearer {self.key}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read().decode()
            return json.loads(text) if answer.headers["content-type"].startswith("application/json") else text

    def figure(self, name: str) -> float:
        """One gauge of its `/metrics`."""
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        assert lines, f"{self.model} has no figure {name}"
        return sum(float(line.split()[-1]) for line in lines)


def client(port: int, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0, timeout=120)


class RealRouter:
    """A running `router up`."""

    def __init__(self, file: Path, folder: Path, variables: Mapping[str, str]) -> None:
        self.file, self.port = file, free_port()
        self.state = folder / "state"
        self.output = folder / "output"
        self.environ = {
            **os.environ,
            **variables,
            "ROUTER_TEST_PORT": str(self.port),
            "ROUTER_TEST_STATE": str(self.state),
        }
        self._rows: list[dict[str, Any]] = []
        self.start()

    def start(self, **variables: str) -> None:
        """Once more, after its end, with these for the file."""
        self.environ |= variables
        self.started = time.monotonic()
        with self.output.open("ab") as output:
            self.process = psutil.Popen(
                [sys.executable, "-m", "router", "up", "-c", str(self.file)],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    @property
    def client(self) -> openai.OpenAI:
        return client(self.port)

    def command(self, *words: str, fails: bool = False) -> str:
        """What `router WORDS` prints; its complaint, if it `fails`."""
        argv = [sys.executable, "-m", "router", *words, "-c", str(self.file)]
        done = subprocess.run(argv, env=self.environ, capture_output=True, text=True, timeout=90, check=False)
        assert (done.returncode != 0) == fails, f"router {' '.join(words)}: {done.stderr}"
        return done.stderr if fails else done.stdout

    def rows(self) -> list[dict[str, Any]]:
        """`router ps --json`."""
        self._rows = json.loads(self.command("ps", "--json"))
        return self._rows

    def engine(self, model: str) -> Engine:
        """As the last `rows` say."""
        return Engine(next(row for row in self._rows or self.rows() if row["model"] == model))

    def is_ready(self) -> bool:
        assert self.process.poll() is None, f"router up has ended:\n{self.words()}"
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=10) as answer:
            return bool(answer.status == 200)
        return False

    def wait_ready(self, within: float = READY_WITHIN, every: float = 0.05) -> float:
        """Seconds from the start of the command until `/ready` says so."""
        try:
            wait_until("every engine is ready", self.is_ready, within, every)
        except pytest.fail.Exception as failure:
            pytest.fail(f"{failure}\n{self.words()}")
        return time.monotonic() - self.started

    def words(self) -> str:
        """The end of what it and its engines printed."""
        logs = [self.output, *(self.state / "logs").glob("*.log")]
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)

    def processes(self) -> list[psutil.Process]:
        """Keepers, engines, and all that these forked."""
        return [*self.process.children(recursive=True), *self.marked()]

    def marked(self) -> list[psutil.Process]:
        """Every process with this router's mark in its environment, wherever it hangs in the tree."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARK, "").startswith(f"{self.state}#"):
                    found.append(process)
        return found

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal does it: SIGINT for the foreground process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self, how: Callable[[], object]) -> float:
        """Ends it by `how`; afterwards nothing that it ever started is left, as far as the last `rows` and the process
        table know. The seconds that took."""
        before = self.processes()
        ports = [int(row["address"].rpartition(":")[2]) for row in self._rows or self.rows() if row["pid"]]
        start = time.monotonic()
        how()
        self.process.wait(GONE_WITHIN)
        took = time.monotonic() - start
        assert not psutil.wait_procs(before, timeout=0)[1], "processes are left"
        assert not self.marked(), "processes that appeared while it ended are left"
        assert not [port for port in (self.port, *ports) if _listens(port)], "ports are left open"
        assert not [*(self.state / "run").iterdir(), *self.state.glob("*.sock")], "sockets are left"
        assert self.process.returncode == 0, self.words()
        return took


Up = Callable[..., AbstractContextManager[RealRouter]]
"""`up(FILE, VARIABLES)`: a router of one's own."""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def router_up(file: str, folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[RealRouter]:
    """`variables` are for the file. Ends by SIGTERM what was not ended inside, and checks that nothing is left."""
    router = RealRouter(HERE / file, folder, variables or {})
    try:
        yield router
        if router.process.poll() is None:
            router.end(router.terminate)
    finally:
        if router.process.poll() is None:
            with suppress(psutil.TimeoutExpired):
                router.terminate()
                router.process.wait(GONE_WITHIN)
        if router.process.poll() is None:
            router.process.kill()
            router.process.wait(10)
        for process in router.marked():
            process.kill()

"""What the router costs: time before an engine is ready, and memory while nothing happens."""

import subprocess
import time
import urllib.request
from contextlib import suppress

import psutil
from real_router import RealRouter, Up, free_port, wait_until

MIB = 1 << 20
STARTS = 5


def test_router_up_adds_less_than_half_a_second_to_the_engines_own_time(up: Up) -> None:
    """From `router up` to `/ready`, next to the same argv started bare to `/health`: the best of some starts, in turns,
    as whatever else the machine does only ever adds."""
    ours, bare = [], []
    for _ in range(STARTS):
        with up("llamacpp_alone.yaml") as router:
            ours.append(router.wait_ready(30, every=0.005))
            engine = psutil.Process(router.engine("llamacpp-chat").pid)
            argv, environ = engine.cmdline(), engine.environ()
        bare.append(start_bare(argv, environ))
    print(f"ready after {min(ours):.2f} s by the router, {min(bare):.2f} s bare")  # noqa: T201
    assert min(ours) - min(bare) < 0.5


def start_bare(argv: list[str], environ: dict[str, str]) -> float:
    """Seconds until the same engine is ready on another port."""
    port = free_port()
    argv[argv.index("--port") + 1] = str(port)

    def healthy() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            return bool(answer.status == 200)
        return False

    start = time.monotonic()
    with subprocess.Popen(argv, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until("the bare engine is ready", healthy, 30, every=0.005)
            return time.monotonic() - start
        finally:
            process.terminate()
            process.wait(10)


def test_the_router_idles_below_60_mib_and_each_keeper_below_16(router: RealRouter) -> None:
    own = router.process.memory_info().rss / MIB
    keepers = [process for process in router.process.children() if any("keeper" in word for word in process.cmdline())]
    assert len(keepers) == len(router.rows())
    largest = max(keeper.memory_info().rss / MIB for keeper in keepers)
    print(f"router {own:.1f} MiB, largest of {len(keepers)} keepers {largest:.1f} MiB")  # noqa: T201
    assert own < 60
    assert largest < 16

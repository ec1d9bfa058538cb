"""What the router takes for itself. The bounds are requirements; what it adds to a start is measured in `bench/`."""

import resource
import sys
import time
from pathlib import Path

from running import Up, fake


def resident(pid: int) -> float:
    """MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_an_idle_router_takes_less_than_60_mib_and_a_keeper_less_than_16(up: Up) -> None:
    up.ready({"m": fake(replicas=2), "n": fake()})
    up.cli("ps")
    keepers = set(up.marked()) - {row.pid for row in up.rows()}
    assert len(keepers) == 3
    router, keeper = resident(up.pid), max(map(resident, keepers))
    sys.stderr.write(f"the router takes {router:.1f} MiB, a keeper {keeper:.1f} MiB\n")
    assert router < 60
    assert keeper < 16


def test_an_idle_router_does_next_to_nothing(up: Up) -> None:
    up.ready({"m": fake()})

    def busy() -> int:
        fields = Path(f"/proc/{up.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    time.sleep(0.5)
    before = busy()
    time.sleep(2)
    assert busy() - before <= 6  # ticks of 10 ms, of 200


def test_the_router_asks_for_more_descriptors_than_the_usual_soft_limit(up: Up) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        up.ready({"m": fake()})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(up.pid, resource.RLIMIT_NOFILE)[0] == min(hard, 65536)

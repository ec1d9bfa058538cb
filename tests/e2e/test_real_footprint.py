"""What the router costs while nothing happens: memory. What it adds to a start is measured in bench/start.py."""

from real_router import RealRouter

MIB = 1 << 20


def test_the_router_idles_below_60_mib_and_each_keeper_below_16(router: RealRouter) -> None:
    own = router.process.memory_info().rss / MIB
    keepers = [process for process in router.process.children() if any("keeper" in word for word in process.cmdline())]
    assert len(keepers) == len(router.rows())
    largest = max(keeper.memory_info().rss / MIB for keeper in keepers)
    print(f"router {own:.1f} MiB, largest of {len(keepers)} keepers {largest:.1f} MiB")  # noqa: T201
    assert own < 60
    assert largest < 16

"""What is measured: a table. `flags` are those of `load run`, see `bench/load/run.go`."""

from dataclasses import dataclass, field

BODY_10_MB = 10_000_000


@dataclass(frozen=True)
class Scenario:
    """`fresh`: each target is started just for it, so that its memory is its own. `rounds`: at most so many.
    `limit`: seconds, after which a target counts as too slow. `skip`: a target, and why it is not asked.
    `targets`: variants of this router in place of the peers. `quick`: also in the short form."""

    name: str
    flags: str
    fresh: bool = False
    rounds: int = 99
    limit: float = 60
    skip: dict[str, str] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    quick: bool = False

    @property
    def embeddings(self) -> bool:
        return "/v1/embeddings" in self.flags


TOO_SLOW = {"litellm": "not asked: it needs some ms of CPU for each request and chunk, so one core cannot carry this"}

SCENARIOS = (
    Scenario("paced", "-size 1400 -connections 8 -rate 150 -time 4s", skip=TOO_SLOW),
    Scenario("saturated", "-size 1400 -connections 32 -time 3s", quick=True),
    Scenario("stream", "-stream -events 5 -every 4ms -connections 1 -time 4s", quick=True),
    Scenario(
        "streams 500", "-stream -events 150 -every 20ms -connections 500 -ramp 2s -time 5s", skip=TOO_SLOW, quick=True
    ),
    Scenario("body 250 KB", "-size 250000 -connections 8 -time 2s", quick=True),
    Scenario("embeddings", "-path /v1/embeddings -size 256 -connections 4 -time 2s"),
    Scenario(
        "streams 4,000",
        "-stream -events 24 -every 250ms -connections 4000 -ramp 3s -time 4s",
        fresh=True,
        rounds=2,
        skip=TOO_SLOW,
    ),
    Scenario(
        "body 10 MB",
        f"-size {BODY_10_MB} -connections 1 -requests 24 -time 20s -warm 0",
        fresh=True,
        rounds=2,
        limit=120,
        skip=TOO_SLOW,
    ),
    Scenario(
        "body 10 MB, 4 at once",
        f"-size {BODY_10_MB} -connections 4 -requests 24 -time 20s -warm 0",
        fresh=True,
        rounds=2,
        limit=120,
        skip=TOO_SLOW,
    ),
    Scenario("catalogue", "-size 1400 -connections 32 -time 3s", fresh=True, targets=("1 model", "1,000 models")),
    Scenario(
        "replicas", "-size 1400 -connections 32 -rate 1000 -time 4s", fresh=True, targets=("1 replica", "64 replicas")
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

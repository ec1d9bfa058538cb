"""A run of chaos: the world, the load, one fault after the other, and the end of it all."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from chaos import changes, faults
from chaos.faults import Fault
from chaos.holdings import Life, Lives
from chaos.load import Load
from chaos.oracle import Damage, Oracle, Window
from chaos.questions import learn, questions
from chaos.setting import FIRST
from chaos.world import Violated, World

KINDS: Mapping[str, Fault] = {
    fault.__name__: fault
    for fault in (
        faults.kill_engine, faults.sigterm_engine, faults.stop_engine_short, faults.stop_engine_for_ever,
        faults.kill_keeper, faults.sigterm_keeper, faults.kill_both, faults.stop_keeper,
        faults.kill_engine_of_stopped_keeper, faults.stop_router, faults.steal_old_port, faults.steal_next_port,
        faults.fill_disk, changes.kill_router, changes.takeover, changes.apply_change, changes.reload_by_signal,
        changes.apply_bad_file, changes.remove_socket,
    )
}  # fmt: skip
RATE = 25.0
"""Requests a second."""
BREATHER = (0.2, 0.6)
"""Seconds of plain load between two faults."""
LOG_END = 6000
"""Characters of the router's log that are shown with a violation."""


class Result(msgspec.Struct):
    """What a run has seen. `recoveries` are seconds by kind, in their order."""

    seed: int
    oracle: Oracle
    recoveries: dict[str, list[float]] = {}
    history: list[str] = []
    lives: list[Life] = []
    left: list[str] = []
    left_out: list[str] = []
    seconds: float = 0.0


def plan(kinds: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` faults: every kind as often as the others, give or take one, in an order that the seed says."""
    rng = random.Random(seed)  # noqa: S311
    planned: list[str] = []
    while len(planned) < count:
        planned += rng.sample(list(kinds), len(kinds))
    return planned[:count]


class Run:
    def __init__(self, kinds: Sequence[str], count: int, seed: int, say: Callable[[str], object]) -> None:
        self.kinds, self.count, self.seed, self.say = kinds, count, seed, say
        self.world = World()
        self.lives = Lives(self.world)
        self._left: set[str] = set()
        self.result = Result(seed, Oracle())

    async def __call__(self) -> Result:
        """Raises Violated, with the history and the end of the router's log."""
        began = time.monotonic()
        try:
            await self._run()
        except Exception as fault:
            what = str(fault) if isinstance(fault, Violated) else f"{type(fault).__name__}: {fault}"
            raise Violated(f"{what}\n{self._story()}") from fault
        finally:
            self.result.seconds = time.monotonic() - began
            await asyncio.to_thread(self.world.close)
        return self.result

    async def _run(self) -> None:
        world, result = self.world, self.result
        world.mount()
        kinds = [kind for kind in self.kinds if kind != "fill_disk" or world.small_disk]
        result.left_out = sorted(set(self.kinds) - set(kinds))
        right = await learn(questions())
        world.write(FIRST)
        world.start()
        await world.recovered(Damage(what="the start"))
        await self.lives.look()
        load = Load(world.port, right, seed=self.seed, rate=RATE)
        load.start()
        try:
            rng = random.Random(self.seed)  # noqa: S311
            for kind in plan(kinds, self.count, self.seed):
                await self._fault(kind, rng)
                await asyncio.sleep(rng.uniform(*BREATHER))
                self._judge(load)
        finally:
            await load.stop()
        self._judge(load)
        await self.lives.rest()
        result.lives = self.lives.all
        result.left = await world.down()
        if result.left:
            raise Violated(f"`router down` has left: {'; '.join(result.left)}")

    async def _fault(self, kind: str, rng: random.Random) -> None:
        start = time.monotonic()
        self.result.history.append(f"{len(self.result.history) + 1}. {kind}")
        damage = await KINDS[kind](self.world, rng)
        self.result.history[-1] = f"{len(self.result.history)}. {kind}: {damage.what}"
        await self.world.recovered(damage)
        end = time.monotonic()
        took = end - damage.since
        self.result.history[-1] += f", {took:.2f} s" + await self._leavings()
        self.result.recoveries.setdefault(kind, []).append(took)
        self.result.oracle.windows.append(Window(kind, start, end, damage))
        self.say(self.result.history[-1])
        self.lives.survived()
        await self.lives.look()

    async def _leavings(self) -> str:
        """For the history only: what counts is what is left at the end."""
        new = await self.world.leavings() - self._left
        self._left |= new
        return f", leaves {', '.join(sorted(new))}" if new else ""

    def _judge(self, load: Load) -> None:
        for fault in load.faults:
            raise fault
        ended, load.outcomes[:] = list(load.outcomes), []
        oracle = self.result.oracle
        oracle.judge(ended)
        if oracle.violations:
            lines = [
                f"{failure}: {outcome.question.path} {outcome.question.body.decode()[:150]} sent {_ago(outcome.sent)}, "
                f"ended {_ago(outcome.ended)}: {outcome.detail}"
                for failure, outcome in oracle.violations[:5]
            ]
            raise Violated(f"{len(oracle.violations)} answers that nothing excuses:\n" + "\n".join(lines))

    def _story(self) -> str:
        """The last faults, and the router's last words."""
        history = "\n".join(self.result.history[-12:])
        now = f"now is {_ago(time.monotonic())}"
        return f"seed {self.seed}; {now}; faults:\n{history}\n--- the router\n{self.world.up.text()[-LOG_END:]}"


def _ago(moment: float) -> str:
    """On the clock of the router's log."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() - (time.monotonic() - moment)))

"""Which replica gets which GPUs."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from router.fleet.holders import Holding
from router.fleet.inventory import Gpu, GpuProcess
from router.fleet.need import Need
from router.fleet.placement import Placement, Refusal, Wish, numbered, place

GIB = 2**30
OLD = 80
"""GiB of a GPU here."""


def gpu(index: int, free: float, *processes: GpuProcess, total: int = OLD) -> Gpu:
    return Gpu(index, f"GPU-{index}", "H100", total * GIB, int(free * GIB), processes)


def gpus(*free: float) -> list[Gpu]:
    return [gpu(index, each) for index, each in enumerate(free)]


def fixed(gib: float, **more: Any) -> Need:
    return Need(fixed=int(gib * GIB), **more)


def wish(name: str, gib: float | None = None, replica: int = 0, **more: Any) -> Wish:
    return Wish(name=name, replica=replica, need=None if gib is None else fixed(gib), **more)


def replicas(times: int, name: str, gib: float | None = None, **more: Any) -> list[Wish]:
    return [wish(name, gib, number, replicas=times, **more) for number in range(times)]


def named(name: str, *ids: str, gib: float | None = None, **more: Any) -> Wish:
    return wish(name, gib, mode="ids", ids=ids, **more)


def shown(placed: Mapping[tuple[str, int], Placement | Refusal]) -> dict[str, Any]:
    """`a0` → the indices of its GPUs, or the reason."""
    return {
        f"{name}{replica}": got.reason
        if isinstance(got, Refusal)
        else None
        if got.gpus is None
        else [int(uuid.removeprefix("GPU-")) for uuid in got.gpus]
        for (name, replica), got in placed.items()
    }


@pytest.mark.parametrize(
    ("wishes", "machine", "placed"),
    [
        # Nothing to decide.
        ([wish("a", mode="inherit"), wish("b", mode="none")], gpus(80), {"a0": None, "b0": []}),
        ([wish("a", mode="inherit"), wish("b", mode="none")], [], {"a0": None, "b0": []}),
        # Named: by index or UUID, shared out evenly, or else all for all.
        ([named("a", "1")], gpus(80, 80), {"a0": [1]}),
        ([named("a", "GPU-1", "0")], gpus(80, 80), {"a0": [1, 0]}),
        (replicas(2, "a", mode="ids", ids=("0", "1")), gpus(80, 80), {"a0": [0], "a1": [1]}),
        (replicas(2, "a", mode="ids", ids=("0", "1", "2")), gpus(80, 80, 80), {"a0": [0, 1, 2], "a1": [0, 1, 2]}),
        # Counted: the most free memory, then the lowest index.
        ([wish("a", 10)], gpus(20, 40, 30), {"a0": [1]}),
        ([wish("a", 10)], gpus(40, 40), {"a0": [0]}),
        ([wish("a", 10, count=2)], gpus(20, 40, 30), {"a0": [1, 2]}),
        # What is given counts: the next one goes where there is more now.
        ([wish("a", 30), wish("b", 10)], gpus(60, 40), {"a0": [0], "b0": [1]}),
        ([wish("a", 10), wish("b", 10)], gpus(60, 40), {"a0": [0], "b0": [0]}),
        # Two fit on one if their sum does.
        ([wish("a", 40), wish("b", 40)], gpus(80), {"a0": [0], "b0": [0]}),
        # Replicas stand apart as long as they can.
        (replicas(2, "a", 10), gpus(80, 20), {"a0": [0], "a1": [1]}),
        (replicas(3, "a", 10), gpus(80, 20), {"a0": [0], "a1": [1], "a2": [0]}),
        (replicas(2, "a", 10), gpus(80, 5), {"a0": [0], "a1": [0]}),
        # The large before the small, the many before the few, whatever their order in the file.
        ([wish("a", 10), wish("b", 70)], gpus(75, 20), {"b0": [0], "a0": [1]}),
        ([wish("a", 10), wish("b", 60, count=2)], gpus(64, 64, 15), {"b0": [0, 1], "a0": [2]}),
        # The named before the counted.
        ([wish("a", 30), named("b", "0", gib=60)], gpus(80, 40), {"b0": [0], "a0": [1]}),
        # A share is of all the memory.
        (
            [Wish(name="a", need=Need(share=0.5)), Wish(name="b", need=Need(share=0.5))],
            gpus(80, 79),
            {"a0": [0], "b0": [1]},
        ),
        # Without a known need: the fewest such engines, then the most free memory.
        ([wish("a"), wish("b"), wish("c")], gpus(20, 40), {"a0": [1], "b0": [0], "c0": [1]}),
        # One whose need is unknown may take everything: others better go elsewhere.
        ([wish("a"), wish("b", 10)], gpus(80, 40), {"b0": [0], "a0": [0]}),
        ([named("a", "0"), wish("b", 10)], gpus(80, 40), {"a0": [0], "b0": [1]}),
        # Memory that the driver does not tell: wherever it is.
        ([wish("a", 500)], [gpu(0, 0, total=0)], {"a0": [0]}),
        ([named("a", "0", gib=500)], [gpu(0, 0, total=0)], {"a0": [0]}),
        # It makes do with less, and takes the best there is.
        ([Wish(name="a", need=fixed(100, hard=False))], gpus(20, 40), {"a0": [1]}),
        ([Wish(name="a", need=fixed(30, hard=False), count=2)], gpus(20, 10, 40), {"a0": [2, 0]}),
        ([named("b", "0"), Wish(name="a", need=fixed(30, hard=False))], gpus(80, 20), {"b0": [0], "a0": [0]}),
        ([Wish(name="a", mode="ids", ids=("0",), need=fixed(100, hard=False))], gpus(20), {"a0": [0]}),
    ],
)
def test_place(wishes: list[Wish], machine: list[Gpu], placed: dict[str, Any]) -> None:
    assert shown(place(wishes, machine)) == placed


def test_each_gpu_has_the_size_that_is_taken_of_it() -> None:
    machine = [gpu(0, 80), gpu(1, 40, total=40)]
    (got,) = place([Wish(name="a", count=2, need=fixed(30, share=0.5))], machine).values()
    assert got == Placement(("GPU-0", "GPU-1"), (40 * GIB, 30 * GIB))


def test_what_makes_do_with_less_takes_no_more_than_there_is() -> None:
    (got,) = place([Wish(name="a", need=fixed(100, hard=False))], gpus(20)).values()
    assert got == Placement(("GPU-0",), (20 * GIB,))


ME, BOB, ROOT = GpuProcess(100, 30 * GIB, "vllm", "me"), GpuProcess(4711, int(61.2 * GIB), "python", "bob"), 7
UNKNOWN = GpuProcess(ROOT, None)


class TestRefusals:
    @pytest.mark.parametrize(
        ("wishes", "machine", "reason"),
        [
            ([wish("a", 20)], gpus(10), "GPU 0 has 10.0 GiB of 80.0 GiB free and 20.0 GiB is needed (estimated)"),
            (
                [wish("a", 20)],
                [gpu(0, 18.8, BOB), gpu(1, 0.01)],
                "GPU 0 has 18.8 GiB of 80.0 GiB free and 20.0 GiB is needed (estimated): "
                "python (pid 4711, user bob) holds 61.2 GiB; "
                "GPU 1 has 10.2 MiB of 80.0 GiB free and 20.0 GiB is needed (estimated)",
            ),
            (
                [Wish(name="a", count=2, need=fixed(20, known="declared"))],
                gpus(30, 10),
                "2 GPUs asked for: GPU 1 has 10.0 GiB of 80.0 GiB free and 20.0 GiB is needed (declared)",
            ),
            (
                [named("a", "0", "1", gib=20)],
                gpus(10, 30),
                "GPU 0 has 10.0 GiB of 80.0 GiB free and 20.0 GiB is needed (estimated)",
            ),
            ([named("a", "0", "7")], gpus(80), "GPU 7 does not answer"),
            ([named("a", "0")], [], "GPU 0 does not answer"),
            ([wish("a")], [], "1 GPU asked for, 0 found"),
            ([wish("a", count=3)], gpus(80, 80), "3 GPUs asked for, 2 found"),
            (
                [wish("a", 10)],
                [gpu(0, 5, UNKNOWN)],
                "GPU 0 has 5.0 GiB of 80.0 GiB free and 10.0 GiB is needed (estimated): "
                "a process (pid 7) holds some memory",
            ),
        ],
    )
    def test_they_say_what_is_free_what_is_needed_and_who_has_the_rest(
        self, wishes: list[Wish], machine: list[Gpu], reason: str
    ) -> None:
        assert shown(place(wishes, machine)) == {"a0": reason}

    def test_engines_of_ours_have_their_name_and_the_largest_is_first(self) -> None:
        worker = GpuProcess(101, 1 * GIB, "vllm", "me")
        machine = [gpu(0, 8, UNKNOWN, ME, worker, GpuProcess(4711, 40 * GIB, "python", "bob"))]
        starting = Holding(name="bge", uuid="GPU-0", size=2 * GIB)
        (got,) = place([wish("a", 10)], machine, [starting], {100: "qwen", 101: "qwen"}).values()
        assert got == Refusal(
            "GPU 0 has 6.0 GiB of 80.0 GiB free and 10.0 GiB is needed (estimated): "
            "python (pid 4711, user bob) holds 40.0 GiB, qwen holds 31.0 GiB, bge will take 2.0 GiB, "
            "a process (pid 7) holds some memory"
        )

    def test_who_came_first_in_the_same_call_is_named_too(self) -> None:
        placed = shown(place([wish("big", 50), wish("late", 40)], gpus(80)))
        assert placed["big0"] == [0]
        assert placed["late0"].endswith(
            "has 30.0 GiB of 80.0 GiB free and 40.0 GiB is needed (estimated): big will take 50.0 GiB"
        )

    def test_one_of_them_does_not_keep_the_others_from_starting(self) -> None:
        placed = shown(place([wish("big", 90), wish("small", 10), named("gone", "5")], gpus(80)))
        assert placed["small0"] == [0]
        assert {type(placed["big0"]), type(placed["gone0"])} == {str}

    def test_when_memory_is_given_back_there_is_room(self) -> None:
        wishes = [wish("a", 30)]
        (before,), (after,) = (place(wishes, gpus(free)).values() for free in (20, 50))
        assert isinstance(before, Refusal)
        assert after == Placement(("GPU-0",), (30 * GIB,))


@pytest.mark.parametrize(
    ("held", "room"),
    [
        ({"size": 30}, 20),  # starting, nothing of it is taken yet
        ({"size": 30, "pids": {100}}, 50),  # all of it is taken
        ({"size": 40, "pids": {100}}, 40),  # a part of it is: the rest is to come
        ({"size": 40, "pids": {100}, "ready": True}, 40),  # it sleeps, and will have it back
        ({"size": 20, "pids": {100}}, 50),  # it took more than was thought
        ({"size": 30, "pids": {999}}, 20),  # starting
        ({"size": 30, "pids": {999}, "ready": True}, 50),  # the driver shows other pids: it has what it needs
        ({"size": 0, "pids": {100}}, 50),  # nobody knows
        ({"size": 30, "uuid": "GPU-9"}, 50),  # elsewhere
    ],
)
def test_what_engines_of_ours_are_about_to_take_is_not_free(held: dict[str, Any], room: int) -> None:
    machine = [gpu(0, 50, ME)]
    holding = Holding(
        name="q",
        uuid=held.get("uuid", "GPU-0"),
        size=held["size"] * GIB,
        pids=frozenset(held.get("pids", ())),
        ready=held.get("ready", False),
    )
    placed = [place([wish("a", gib)], machine, [holding])["a", 0] for gib in (room, room + 0.1)]
    assert [type(got) for got in placed] == [Placement, Refusal]


def test_a_replica_goes_where_no_running_one_of_its_model_is() -> None:
    running = Holding(name="a", uuid="GPU-0", size=10 * GIB, ready=True)
    assert shown(place([wish("a", 10, replica=1)], gpus(80, 20), [running])) == {"a1": [1]}


@pytest.mark.parametrize(
    ("wishes", "placed"),
    [
        ([wish("a"), wish("b", count=2)], {"a0": ("0",), "b0": ("1", "2")}),
        (replicas(2, "a", count=2), {"a0": ("0", "1"), "a1": ("2", "3")}),
        ([wish("a", count=2), named("b", "1")], {"b0": ("1",), "a0": ("0", "2")}),
        ([named("a", "3"), named("b", "3")], {"a0": ("3",), "b0": ("3",)}),
        (replicas(2, "a", mode="ids", ids=("4", "2")), {"a0": ("4",), "a1": ("2",)}),
        ([wish("a", mode="none"), wish("b", mode="inherit")], {"a0": (), "b0": None}),
    ],
)
def test_without_an_inventory_gpus_are_numbered_and_none_is_given_twice(
    wishes: list[Wish], placed: dict[str, tuple[str, ...] | None]
) -> None:
    assert {f"{name}{replica}": got.gpus for (name, replica), got in numbered(wishes).items()} == placed


# Whatever the machine and the wishes.
SEEDS = range(100)


def some_need(chance: random.Random) -> Need | None:
    kind = chance.choice(["fixed", "fixed", "share", "soft", "unknown"])
    if kind == "unknown":
        return None
    if kind == "share":
        return Need(share=chance.choice([0.3, 0.5, 0.92]))
    return Need(fixed=chance.randrange(1, 70) * GIB, hard=kind == "fixed")


def some_machine(chance: random.Random) -> list[Gpu]:
    machine = []
    for index in range(chance.randrange(1, 7)):
        total = chance.choice([24, 80, 80, 0])
        used = chance.choice([0, 0, 5, 20])
        processes = (GpuProcess(1000 + index, used * GIB, "python", "bob"),) if used else ()
        machine.append(gpu(index, max(0, total - used), *processes, total=total))
    return machine


def some_wishes(chance: random.Random, machine: Sequence[Gpu]) -> list[Wish]:
    wishes = []
    for name in "abcdef"[: chance.randrange(1, 7)]:
        count = chance.randrange(1, 4)
        mode = chance.choice(["count", "count", "count", "ids", "none", "inherit"])
        ids = tuple(str(each.index) for each in chance.sample(machine, chance.randrange(1, len(machine) + 1)))
        need, wanted = some_need(chance), chance.choice([1, 1, 2])
        wishes += [
            Wish(name=name, replica=number, replicas=count, mode=mode, count=wanted, ids=ids, need=need)
            for number in range(count)
        ]
    return wishes


def some_holdings(chance: random.Random, machine: Sequence[Gpu]) -> list[Holding]:
    return [
        Holding(name=f"held {number}", uuid=chance.choice(machine).uuid, size=chance.randrange(0, 10) * GIB)
        for number in range(chance.randrange(0, 3))
    ]


@pytest.fixture(params=SEEDS)
def case(request: pytest.FixtureRequest) -> tuple[list[Wish], list[Gpu], list[Holding], random.Random]:
    chance = random.Random(request.param)  # noqa: S311 - not a secret
    machine = some_machine(chance)
    return some_wishes(chance, machine), machine, some_holdings(chance, machine), chance


Case = tuple[list[Wish], list[Gpu], list[Holding], random.Random]


def test_each_wish_is_answered_and_a_replicas_gpus_are_distinct_and_as_many_as_asked_for(case: Case) -> None:
    wishes, machine, held, _ = case
    placed = place(wishes, machine, held)
    assert set(placed) == {(each.name, each.replica) for each in wishes}
    for each in wishes:
        got = placed[each.name, each.replica]
        if isinstance(got, Placement) and got.gpus is not None:
            assert len(set(got.gpus)) == len(got.gpus) == len(got.sizes)
            assert each.mode != "count" or len(got.gpus) == each.count


def test_what_was_named_is_what_is_given(case: Case) -> None:
    wishes, machine, held, _ = case
    uuids = {str(each.index): each.uuid for each in machine}
    placed = place(wishes, machine, held)
    for each in wishes:
        got = placed[each.name, each.replica]
        if each.mode == "ids" and isinstance(got, Placement):
            assert set(got.gpus or ()) <= {uuids[name] for name in each.ids}


def test_no_more_is_given_than_is_free(case: Case) -> None:
    wishes, machine, held, _ = case
    given: Counter[str] = Counter()
    for got in place(wishes, machine, held).values():
        if isinstance(got, Placement):
            given.update(dict(zip(got.gpus or (), got.sizes, strict=True)))
    for each in machine:
        spoken_for = sum(holding.size for holding in held if holding.uuid == each.uuid)
        assert not each.total or given[each.uuid] <= max(0, each.free - spoken_for)


def test_a_known_need_is_met_on_each_gpu(case: Case) -> None:
    wishes, machine, held, _ = case
    totals = {each.uuid: each.total for each in machine}
    placed = place(wishes, machine, held)
    for each in wishes:
        got = placed[each.name, each.replica]
        if isinstance(got, Placement) and each.need is not None and each.need.hard:
            assert list(got.sizes) == [each.need.on(totals[uuid]) for uuid in got.gpus or ()]


def test_the_order_of_gpus_and_holdings_does_not_matter(case: Case) -> None:
    wishes, machine, held, chance = case
    placed = place(wishes, machine, held)
    assert placed == place(wishes, chance.sample(machine, len(machine)), iter(chance.sample(held, len(held))))


def test_the_order_of_wishes_that_differ_does_not_matter(case: Case) -> None:
    wishes, machine, held, chance = case
    single = {
        (each.mode == "count", each.count, each.need and (each.need.share, each.need.fixed)): each for each in wishes
    }
    different = [each for each in single.values() if each.mode == "count"]
    assert place(different, machine, held) == place(chance.sample(different, len(different)), machine, held)


def test_who_is_refused_would_not_have_fitted_anywhere_else(case: Case) -> None:
    """Alone on the machine as the others left it, it is refused again."""
    wishes, machine, held, _ = case
    placed = place(wishes, machine, held)
    taken = [
        Holding(name=name, uuid=uuid, size=size)
        for (name, _), got in placed.items()
        if isinstance(got, Placement)
        for uuid, size in zip(got.gpus or (), got.sizes, strict=True)
    ]
    for each in wishes:
        if isinstance(placed[each.name, each.replica], Refusal):
            (again,) = place([each], machine, [*held, *taken]).values()
            assert isinstance(again, Refusal)


def test_the_cases_hold_something_of_everything() -> None:
    """So that the properties above are about something."""
    found: Counter[str] = Counter()
    for seed in SEEDS:
        chance = random.Random(seed)  # noqa: S311 - not a secret
        machine = some_machine(chance)
        wishes = some_wishes(chance, machine)
        for (name, replica), got in place(wishes, machine, some_holdings(chance, machine)).items():
            (asked,) = (each for each in wishes if (each.name, each.replica) == (name, replica))
            found[f"{asked.mode} {type(got).__name__}"] += 1
    assert min(found[f"{mode} {got}"] for mode in ("count", "ids") for got in ("Placement", "Refusal")) > 20

"""Who is asked for a group's name: each member by its weight, whichever are ready."""

import random
from collections import Counter
from collections.abc import Iterable

import pytest

from router.catalog import Address, Catalog, Group, Manner, Model, Target
from router.config.specs import Edits, Limits

pytestmark = pytest.mark.anyio

LIMITS = Limits(queue_timeout=1, queue_size=1, connect_timeout=1, response_timeout=1, stall_timeout=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def model(name: str, *aliases: str, paths: Iterable[str] | None = None, **edits: Edits) -> Model:
    manner = Manner(edits=edits)
    return Model(name, kind="chat", engine="test", aliases=aliases, paths=paths, limits=LIMITS, manner=manner)


def group(**members: int) -> Group:
    return Group("all", kind="chat", members=members.items())


def ready(one: Model) -> Target:
    target = Target(f"{one.name}#0", Address("127.0.0.1", 1), served="m")
    one.add(target)
    return target


def asked(catalog: Catalog) -> list[str]:
    return [hop.name for hop in catalog.hops("all")]


async def test_a_member_may_be_named_by_an_alias_and_is_asked_as_that_alias_is() -> None:
    one = model("one", "short", short=Edits(set={"max_tokens": 5}))
    catalog = Catalog([one, model("two")], [group(short=1, two=1)])
    assert asked(catalog) == ["short", "two"]
    ready(one)
    first, _ = catalog.hops("all")
    assert (first.model, [dict(edits.set) for edits in first.edits]) == (one, [{"max_tokens": 5}])


async def test_a_group_has_the_paths_of_members_that_are_named_by_an_alias() -> None:
    models = model("one", "short", paths=["/v1/embeddings"]), model("two", paths=["/v1/rerank"])
    catalog = Catalog(models, [group(short=1)])
    assert catalog.serving("/v1/embeddings") == ["one", "all"]
    assert catalog.serving("/v1/rerank") == ["two"]


async def test_shares_are_kept_among_those_that_are_ready_whatever_comes_and_goes() -> None:
    chance = random.Random(5)  # noqa: S311 - not a secret
    models = {name: model(name) for name in ("a", "b", "c")}
    catalog = Catalog(models.values(), [group(a=3, b=2, c=1)])
    targets = {name: ready(each) for name, each in models.items()}
    for _ in range(200):
        for name, each in models.items():
            if chance.random() < 0.3:
                each.remove(targets[name]) if each.ready else each.add(targets[name])
        assert {*asked(catalog)} == {"a", "b", "c"}
    for name, each in models.items():
        each.add(targets[name])
    seen = Counter(asked(catalog)[0] for _ in range(600))
    assert all(abs(seen[name] - share) <= 3 for name, share in (("a", 300), ("b", 200), ("c", 100))), seen
    models["a"].remove(targets["a"])
    seen = Counter(asked(catalog)[0] for _ in range(300))
    assert all(abs(seen[name] - share) <= 3 for name, share in (("a", 0), ("b", 200), ("c", 100))), seen


async def test_a_member_that_leaves_the_file_is_asked_no_more() -> None:
    one, two = model("one"), model("two")
    catalog = Catalog([one, two], [group(one=1, two=1)])
    target = ready(two)
    assert asked(catalog) == ["two", "one"]
    catalog.replace([model("two")], [group(two=1)])
    (hop,) = catalog.hops("all")
    assert (hop.model, hop.model.targets) == (two, [target])


def told(catalog: Catalog, name: str) -> list[tuple[str, list[dict[str, object]]]]:
    return [(hop.name, [dict(edits.set) for edits in hop.edits]) for hop in catalog.hops(name)]


async def test_what_stands_in_is_asked_as_it_is_by_its_own_name() -> None:
    """A group's edits are for its members, whoever stands in; those of what failed are not for what stands in."""
    one, cloud = model("one", one=Edits(set={"a": 1})), model("cloud", cloud=Edits(set={"c": 1}))
    one.manner = Manner(edits=one.manner.edits, fallback=("all",))
    manner = Manner(edits={"all": Edits(set={"g": 1})}, fallback=("cloud",))
    catalog = Catalog([one, model("two"), cloud], [Group("all", kind="chat", members=[("two", 1)], manner=manner)])
    assert told(catalog, "all") == [("two", [{"g": 1}]), ("cloud", [{"c": 1}])]
    assert told(catalog, "one") == [("one", [{"a": 1}]), ("two", [{"g": 1}])]


async def test_nobody_is_asked_twice_by_one_name() -> None:
    one = model("one")
    one.manner = Manner(fallback=("two", "all"))
    manner = Manner(fallback=("one", "cloud"))
    members = [("one", 1), ("two", 1)]
    models = [one, model("two"), model("cloud")]
    catalog = Catalog(models, [Group("all", kind="chat", members=members, manner=manner)])
    assert asked(catalog) == ["one", "two", "cloud"]
    assert [hop.name for hop in catalog.hops("one")] == ["one", "two"]

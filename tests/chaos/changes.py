"""Faults of the router's own life, and changes of its file, by name."""

import os
import random
import signal
from typing import Any

import psutil

from chaos.faults import hit, restarted, victim_of
from chaos.oracle import Damage
from chaos.setting import CHANGES, FIRST, replicas, settings
from chaos.world import Violated, World

BAD: tuple[dict[str, Any], ...] = (
    {},
    {"chat": {"engine": "nothing"}},
    {"chat": {"engine": "llamacpp", "model": "there-is-no-such-file.gguf"}},
    {"chat": {"url": "http://127.0.0.1:1", "replicas": 0, "kind": "soup"}},
)
"""Models of files that have faults."""


async def kill_router(world: World, _rng: random.Random) -> Damage:
    """`kill -9`, and `router up` again: the engines are the same ones."""
    damage = Damage(what="kill_router", down=True, kept=await world.engines())
    world.router.kill()
    await world.ended(world.router)
    world.start()
    await world.until("a router answers again", world.rows)
    return damage


async def takeover(world: World, _rng: random.Random) -> Damage:
    """Another `router up` in place of the running one, and no client notices."""
    damage, old = Damage(what="takeover", moved=True, kept=await world.engines()), world.router
    world.start("--takeover")
    await world.ended(old)
    return damage


async def apply_change(world: World, rng: random.Random) -> Damage:
    """A changed file; what has not changed in it stays as it is."""
    return await _change(world, rng, "apply")


async def reload_by_signal(world: World, rng: random.Random) -> Damage:
    """The same by SIGHUP."""
    return await _change(world, rng, "SIGHUP")


async def apply_bad_file(world: World, rng: random.Random) -> Damage:
    """It is refused, and nothing changes; nor by one that is as it was, which is not refused."""
    kept = await world.engines()
    await _apply(world)
    world.up.write(rng.choice(BAD), **settings(world.change, world.port))
    try:
        done = await world.command("apply")
    finally:
        world.write(world.change)
    if done.returncode == 0:
        raise Violated(f"`router apply` takes a bad file: {done.stdout}")
    return Damage(what="apply_bad_file", kept=kept)


async def remove_socket(world: World, rng: random.Random) -> Damage:
    """Somebody tidies up the state folder; the engine whose socket it was can still be replaced."""
    victim = await victim_of(world, rng)
    damage = await hit(world, f"remove_socket {victim.name}, kill_engine", victim)
    for path in {str(each.laddr) for each in psutil.Process(victim.keeper).net_connections("unix") if each.laddr}:
        os.unlink(path)
    os.kill(victim.engine, signal.SIGKILL)
    await restarted(world, victim)
    return damage


async def _apply(world: World) -> None:
    done = await world.command("apply")
    if done.returncode != 0:
        raise Violated(f"`router apply` refuses {world.change.name}: {done.stderr}")


async def _change(world: World, rng: random.Random, way: str) -> Damage:
    old = world.change
    new = rng.choice([change for change in CHANGES if change != old]) if old is FIRST else FIRST
    changed = {name for change in (old, new) if (name := change.replaces)}
    before = await world.replicas()
    stays = {name: min(replicas(old)[name], replicas(new)[name]) for name in replicas(new)}
    kept = frozenset(each.engine for each in before if each.model not in changed and each.number < stays[each.model])
    gone = frozenset(each.engine for each in before) - kept
    damage = Damage(what=f"{way}: {old.name} -> {new.name}", kept=kept, gone=gone)
    world.write(new)
    if way == "SIGHUP":
        os.kill(world.router.pid, signal.SIGHUP)
    else:
        await _apply(world)
    return damage

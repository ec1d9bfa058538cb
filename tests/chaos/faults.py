"""Faults by name. Each does its harm and undoes what nobody else would undo; what has to come back is `Damage`."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from chaos.oracle import Damage
from chaos.thief import Thief
from chaos.world import Replica, World

Fault = Callable[[World, random.Random], Awaitable[Damage]]
SHORT = (0.2, 2.5)
"""Seconds that something stands still: less than anybody would end it for."""
STARTED_WITHIN = 60.0
FULL_FOR = 1.5
"""Seconds that the disk is full."""


async def kill_engine(world: World, rng: random.Random) -> Damage:
    """`kill -9` of an engine's first process."""
    return await _signal_engine(world, rng, signal.SIGKILL)


async def sigterm_engine(world: World, rng: random.Random) -> Damage:
    """Behind the router's back."""
    return await _signal_engine(world, rng, signal.SIGTERM)


async def stop_engine_for_ever(world: World, rng: random.Random) -> Damage:
    """It hangs; somebody has to notice, and to replace it."""
    return await _signal_engine(world, rng, signal.SIGSTOP)


async def stop_engine_short(world: World, rng: random.Random) -> Damage:
    """SIGSTOP, and SIGCONT before anybody may call it dead: nothing fails."""
    victim = await victim_of(world, rng)
    await _halt(victim.engine, rng)
    return Damage(what=f"stop_engine_short {victim.name}", kept=await world.engines())


async def kill_keeper(world: World, rng: random.Random) -> Damage:
    victim = await victim_of(world, rng)
    damage = await hit(world, f"kill_keeper {victim.name}", victim)
    os.kill(victim.keeper, signal.SIGKILL)
    return damage


async def sigterm_keeper(world: World, rng: random.Random) -> Damage:
    """Which ends its engine, as it was told to."""
    victim = await victim_of(world, rng)
    damage = await hit(world, f"sigterm_keeper {victim.name}", victim)
    os.kill(victim.keeper, signal.SIGTERM)
    return damage


async def kill_both(world: World, rng: random.Random) -> Damage:
    """Engine and keeper, at once and in either order."""
    victim = await victim_of(world, rng)
    damage = await hit(world, f"kill_both {victim.name}", victim)
    for pid in rng.sample([victim.engine, victim.keeper], 2):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return damage


async def stop_keeper(world: World, rng: random.Random) -> Damage:
    """SIGSTOP and SIGCONT: the engine goes on without it."""
    victim = await victim_of(world, rng)
    await _halt(victim.keeper, rng)
    return Damage(what=f"stop_keeper {victim.name}", kept=await world.engines())


async def kill_engine_of_stopped_keeper(world: World, rng: random.Random) -> Damage:
    """The keeper learns of the end late; the router has eyes of its own."""
    victim = await victim_of(world, rng)
    damage = await hit(world, f"kill_engine_of_stopped_keeper {victim.name}", victim)
    os.kill(victim.keeper, signal.SIGSTOP)
    os.kill(victim.engine, signal.SIGKILL)
    await asyncio.sleep(rng.uniform(*SHORT))
    with suppress(ProcessLookupError):
        os.kill(victim.keeper, signal.SIGCONT)
    return damage


async def stop_router(world: World, rng: random.Random) -> Damage:
    """SIGSTOP and SIGCONT: clients wait, and get their answers."""
    kept = await world.engines()
    await _halt(world.router.pid, rng)
    return Damage(what="stop_router", kept=kept)


async def steal_old_port(world: World, rng: random.Random) -> Damage:
    """A foreign server takes an engine's port the moment it is free; nobody may be given its answers."""
    victim = await victim_of(world, rng)
    damage = await hit(world, f"steal_old_port {victim.name}", victim)
    os.kill(victim.engine, signal.SIGKILL)
    async with Thief(victim.port):
        await restarted(world, victim)
    return damage


async def steal_next_port(world: World, rng: random.Random) -> Damage:
    """A foreign server takes the port between its choice and the engine's start."""
    victim = await victim_of(world, rng)
    damage = await hit(world, f"steal_next_port {victim.name}", victim)
    os.kill(victim.engine, signal.SIGKILL)
    pid, port = await restarted(world, victim)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        try:
            async with Thief(port) as thief:
                os.kill(pid, signal.SIGCONT)
                if thief.has_it:

                    async def given_up() -> bool:
                        row = await world.row(victim)
                        return row is not None and row.pid != pid

                    await world.until(f"{victim.name} has given up the port that was stolen", given_up)
        finally:
            os.kill(pid, signal.SIGCONT)
    return damage


async def fill_disk(world: World, rng: random.Random) -> Damage:
    """No byte more can be written to the state folder; now and then an engine dies meanwhile."""
    victim = await victim_of(world, rng) if rng.random() < 0.5 else None
    damage = (
        Damage(what="fill_disk", kept=await world.engines())
        if victim is None
        else await hit(world, f"fill_disk, kill_engine {victim.name}", victim)
    )
    ballast = world.up.state_dir / "ballast"
    try:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        if victim is not None:
            os.kill(victim.engine, signal.SIGKILL)
            await restarted(world, victim)
        await asyncio.sleep(FULL_FOR)
    finally:
        ballast.unlink()
    return msgspec.structs.replace(damage, since=time.monotonic())


async def victim_of(world: World, rng: random.Random) -> Replica:
    """One of those that were hit least: each failure in a row makes the next start wait longer."""
    replicas = await world.replicas()
    least = min(replica.restarts for replica in replicas)
    return rng.choice([replica for replica in replicas if replica.restarts == least])


async def hit(world: World, what: str, victim: Replica) -> Damage:
    kept = await world.engines() - {victim.engine}
    return Damage(what=what, model=victim.model, gone=frozenset({victim.engine}), kept=kept)


async def _signal_engine(world: World, rng: random.Random, number: signal.Signals) -> Damage:
    victim = await victim_of(world, rng)
    damage = await hit(world, f"{number.name} to engine {victim.name}", victim)
    os.kill(victim.engine, number)
    return damage


async def _halt(pid: int, rng: random.Random) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(rng.uniform(*SHORT))
    finally:
        os.kill(pid, signal.SIGCONT)


async def restarted(world: World, victim: Replica) -> tuple[int, int]:
    """The pid and the port of the process that follows it."""

    async def look() -> tuple[int, int] | None:
        row = await world.row(victim)
        if row is None or row.pid in (None, victim.engine) or row.address is None:
            return None
        return row.pid, int(row.address.rpartition(":")[2])

    return await world.until(f"{victim.name} is started again", look, STARTED_WITHIN)

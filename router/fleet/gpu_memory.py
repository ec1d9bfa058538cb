"""Looking at GPUs without waiting for a driver that hangs, and waiting until what an engine held is free again."""

import asyncio
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import anyio
import msgspec

from router.fleet.inventory import Gpu, Inventory

POLL = 0.25
"""Seconds between two looks; memory is back 0.5 to 1.5 s after an engine's end."""
ENOUGH = 0.75
"""Of what an engine held: meanwhile others may take some."""


class Held(msgspec.Struct, frozen=True):
    """What a running engine holds of the GPU `uuid`: `used` bytes, 0 if nobody knows. `free` is what all engines leave.
    `pids` are those of its processes that the driver lists; inside a container it may list none of them."""

    uuid: str
    free: int
    used: int
    pids: frozenset[int]


async def look(inventory: Inventory, patience: float) -> list[Gpu]:
    """The GPUs now. Raises TimeoutError after `patience` seconds: a driver may hang for good, and the thread that asks
    it is left to it. Nothing waits for that thread, not even the end of the router."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Gpu]] = loop.create_future()
    threading.Thread(target=_ask, args=(inventory, loop, answer), name="gpus", daemon=True).start()
    async with asyncio.timeout(patience):
        return await answer


def _ask(inventory: Inventory, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[Gpu]]) -> None:
    gpus, fault = [], None
    try:
        gpus = inventory.read()
    except Exception as error:  # whoever waits shall have it
        fault = error
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(_answer, answer, gpus, fault)


def _answer(answer: asyncio.Future[list[Gpu]], gpus: list[Gpu], fault: Exception | None) -> None:
    if answer.done():
        return
    if fault is not None:
        answer.set_exception(fault)
    else:
        answer.set_result(gpus)


def held(gpus: Sequence[Gpu], expected: Mapping[str, int], pids: Collection[int]) -> list[Held]:
    """What the engine with these processes holds of its GPUs; to be asked before it is stopped. `expected` has for each
    of them the bytes that it was thought to take (0: unknown), for where the driver does not list its processes."""
    return [_held(gpu, expected[gpu.uuid], pids) for gpu in gpus if gpu.uuid in expected]


def _held(gpu: Gpu, expected: int, pids: Collection[int]) -> Held:
    seen = frozenset(process.pid for process in gpu.processes or () if process.pid in pids)
    return Held(gpu.uuid, gpu.free, gpu.used_by(seen) or expected, seen)


async def memory_back(inventory: Inventory, before: Sequence[Held], patience: float) -> bool:
    """Returns True once what a stopped engine held is free again on all its GPUs, False after `patience` seconds.

    It is when its processes are gone from the driver's list, or three quarters of what it held are free besides what
    was. Where neither is known there is nothing to wait for.
    """
    end = time.monotonic() + patience
    wanted = [entry for entry in before if entry.pids or entry.used]
    while wanted and (left := end - time.monotonic()) > 0:
        try:
            now = {gpu.uuid: gpu for gpu in await look(inventory, left)}
        except TimeoutError:
            break
        wanted = [entry for entry in wanted if not _is_back(entry, now.get(entry.uuid))]
        if wanted:
            await anyio.sleep(min(POLL, max(0.0, end - time.monotonic())))
    return not wanted


def _is_back(entry: Held, gpu: Gpu | None) -> bool:
    """Of a GPU that does not answer nothing is known."""
    if gpu is None:
        return False
    if entry.used and gpu.free >= entry.free + ENOUGH * entry.used:
        return True
    listed = {process.pid for process in gpu.processes or ()}
    return bool(entry.pids) and gpu.processes is not None and not entry.pids & listed

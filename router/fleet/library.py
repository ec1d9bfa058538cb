"""What is known of the models of the file, read once each."""

import asyncio

from router.config import Config, EngineSpec, RemoteSpec
from router.fleet.facts import Facts
from router.fleet.facts_of import facts_of

PATIENCE = 2.0
"""Seconds that somebody who asks waits for a slow disk."""


class Library:
    """The facts of each model: read off the event loop when they are first asked for, and again when the file declares
    the model anew, or while its own files are not all there."""

    def __init__(self, config: Config) -> None:
        self._shelf: dict[str, _Entry] = {}
        self._one_at_a_time = asyncio.Lock()  # a disk that hangs takes one of the loop's few threads
        self.apply(config)

    def apply(self, config: Config) -> None:
        """What the file says, from now on."""
        before = self._shelf
        self._shelf = {
            spec.name: held if (held := before.get(spec.name)) is not None and held.spec == spec else _Entry(spec)
            for spec in config.models
        }

    async def facts(self, name: str) -> Facts:
        """Those of a declared model; as good as nothing where that takes too long, and of a name that is none."""
        entry = self._shelf.get(name)
        if entry is None:
            return Facts()
        if entry.reading is None and not entry.facts.complete:
            entry.reading = asyncio.ensure_future(self._read(entry))
        if entry.reading is not None:
            await asyncio.wait((entry.reading,), timeout=PATIENCE)
        return entry.facts

    async def _read(self, entry: "_Entry") -> None:
        try:
            async with self._one_at_a_time:
                entry.facts = await asyncio.to_thread(facts_of, entry.spec)
        finally:
            entry.reading = None


class _Entry:
    """One model's."""

    def __init__(self, spec: EngineSpec | RemoteSpec) -> None:
        self.spec = spec
        self.facts = Facts(complete=False)
        self.reading: asyncio.Task[None] | None = None

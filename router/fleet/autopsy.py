"""Why a run of an engine failed, from what it printed and what the system says."""

import asyncio
import os
import time

import msgspec

from launchers.base import Command
from router.config import EngineSpec
from router.fleet.diagnosis import Death, Diagnosis
from router.fleet.diagnosis.system import oom_kills, system_facts
from router.fleet.files import Files

TOLD = 40
"""Last lines of the log that are told with it."""


class Findings(msgspec.Struct, frozen=True):
    """`log`: the end of what it printed."""

    diagnosis: Diagnosis | None
    log: str


class Autopsy:
    """Of one run, from its start on; `since` in seconds since 1970."""

    def __init__(self, files: Files, spec: EngineSpec, replica: int, since: float | None = None) -> None:
        self._files, self._spec, self._replica = files, spec, replica
        self._since = time.time() if since is None else since
        self._kills = oom_kills()

    async def findings(self, command: Command, port: int, key: str, exit: int | None, waited: float | None) -> Findings:  # noqa: A002
        """`waited`: seconds of `start_timeout`, if the router gave up. Reads files, in a thread."""
        return await asyncio.to_thread(self._look, command, port, key, exit, waited)

    def _look(self, command: Command, port: int, key: str, exit: int | None, waited: float | None) -> Findings:  # noqa: A002
        # A start that goes well has no use for these.
        from router.downloads.held import hub_cache  # noqa: PLC0415
        from router.fleet.diagnosis.diagnose import diagnose  # noqa: PLC0415
        from router.fleet.diagnosis.printed import printed  # noqa: PLC0415

        log = printed(self._files.log(self._spec.name, self._replica), self._since).replace(key, "(its key)")
        downloads = hub_cache({**os.environ, **command.env, **self._spec.env})
        facts = system_facts(oom_kills_before=self._kills, downloads=downloads, port=port)
        death = Death(self._spec.engine, log, exit, facts, waited=waited)
        return Findings(diagnose(death), "\n".join(log.splitlines()[-TOLD:]))

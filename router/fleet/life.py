"""One run of an engine, and how to speak to it."""

import msgspec

from launchers.base import Command
from router.catalog import Address, Target
from router.fleet.autopsy import Autopsy
from router.fleet.gpu_room import Seat
from router.fleet.runtime import Run


class Life(msgspec.Struct, frozen=True):
    """From its start, or its adoption, to its end."""

    run: Run
    command: Command
    port: int
    key: str
    seat: Seat
    autopsy: Autopsy
    uptime: float = 0.0
    """Seconds that it had been there before it was adopted."""

    def target(self, id: str) -> Target:  # noqa: A002
        """The engine as the proxy sees it."""
        command = self.command
        target = Target(
            id,
            Address("127.0.0.1", self.port),
            served=command.served,
            paths=command.paths,
            key=self.key,
            idle=command.keep_alive.idle,
            reuse=command.keep_alive.requests,
            limit=command.concurrency,
        )
        target.names, target.dialect = command.names, command.dialect
        target.alive = self.run.alive
        return target

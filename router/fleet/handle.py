"""A process that may be nobody's child here, by its pidfd: the pid of another is never taken for it."""

import asyncio
import os
import select
import signal
import subprocess
from contextlib import suppress


class Handle:
    """Raises ProcessLookupError if it is gone already. `child`: it is this one of ours, which has to be reaped."""

    def __init__(self, pid: int, child: "subprocess.Popen[bytes] | None" = None) -> None:
        """Raises OSError."""
        self.pid, self._child = pid, child
        self._fd = os.pidfd_open(pid)
        try:
            self._watched = os.dup(self._fd)  # now, as later there may be no descriptor left
        except OSError:
            os.close(self._fd)
            raise

    async def ended(self) -> None:
        """Returns once it has ended. To be awaited once."""
        fd, self._watched = self._watched, -1
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(fd, gone.set)  # readable once the process has ended
        try:
            await gone.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)
        if self._child is not None:
            self._child.poll()

    @property
    def alive(self) -> bool:
        """Not after `close`."""
        poll = select.poll()
        if self._fd < 0:
            return False
        poll.register(self._fd, select.POLLIN)
        return not poll.poll(0)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, signal.SIGKILL)

    def close(self) -> None:
        """It is of no more interest."""
        for fd in (self._fd, self._watched):
            if fd >= 0:
                os.close(fd)
        self._fd = self._watched = -1

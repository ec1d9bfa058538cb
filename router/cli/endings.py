"""Ctrl-C, SIGTERM and SIGHUP, none of them lost."""

import os
import signal
import termios
from collections.abc import Callable

Act = Callable[[], object]


class Endings:
    """Notes every such signal from its making on. An exception thrown out of a handler, as Python does it, can be lost
    or change its kind in the middle of anything, an import say; and a handler that a loop puts in its place later can
    miss the signal that is just being handled.

    SIGHUP asks for the end where it says that the terminal has gone, and until there is something that can be reloaded;
    else it asks to reload.
    """

    def __init__(self) -> None:
        self._asked: list[None] = []
        self._act: Act | None = None
        self._reload: Act | None = None
        self._terminals = [fd for fd in range(3) if os.isatty(fd)]
        self.any = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # `nohup` is respected
                signal.signal(number, self._note)

    def listen(self, act: Act, reload: Act | None = None) -> None:
        """`act` is called once for each, those of the past included, in the midst of whatever the main thread does."""
        self._act, self._reload = act, reload
        self._pass_on()

    def ignore(self) -> None:
        """All has ended: there is nothing to hurry."""
        self.listen(lambda: None)

    def _note(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP and self._reload is not None and all(map(_is_there, self._terminals)):
            self._reload()
            return
        self.any = True
        self._asked.append(None)
        self._pass_on()

    def _pass_on(self) -> None:
        while self._act is not None and self._asked:
            self._asked.pop()
            self._act()


def _is_there(terminal: int) -> bool:
    try:
        termios.tcgetattr(terminal)
    except (OSError, termios.error):
        return False
    return True

"""Ctrl-C, SIGTERM and SIGHUP, none of them lost."""

import signal
from collections.abc import Callable


class Endings:
    """Notes every such signal from its making on. An exception thrown out of a handler, as Python does it, can be lost
    or change its kind in the middle of anything, an import say; and a handler that a loop puts in its place later can
    miss the signal that is just being handled."""

    def __init__(self) -> None:
        self._asked: list[None] = []
        self._act: Callable[[], object] | None = None
        self.any = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # `nohup` is respected
                signal.signal(number, self._note)

    def listen(self, act: Callable[[], object]) -> None:
        """`act` is called once for each, those of the past included, in the midst of whatever the main thread does."""
        self._act = act
        self._pass_on()

    def ignore(self) -> None:
        """All has ended: there is nothing to hurry."""
        self.listen(lambda: None)

    def _note(self, *_: object) -> None:
        self.any = True
        self._asked.append(None)
        self._pass_on()

    def _pass_on(self) -> None:
        while self._act is not None and self._asked:
            self._asked.pop()
            self._act()

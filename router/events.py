"""What happens in the fleet, told to whoever listens: one event for each change of an engine's state."""

import time
from collections.abc import Callable

import msgspec


class Event(msgspec.Struct, frozen=True):
    """`time` in seconds since 1970; `detail` says why, in words."""

    time: float
    model: str
    replica: int
    state: str
    detail: str = ""


Listener = Callable[[Event], None]


class Events:
    """Hands each event to every listener, at once and in order."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def emit(self, model: str, replica: int, state: str, detail: str = "") -> None:
        event = Event(time.time(), model, replica, state, detail)
        for listener in self._listeners:
            listener(event)

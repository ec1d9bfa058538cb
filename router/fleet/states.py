"""The states of an engine."""

import enum


class State(enum.StrEnum):
    """
    | from     | to       | when                                                                   |
    |----------|----------|------------------------------------------------------------------------|
    | stopped  | starting | it is wanted                                                           |
    | starting | ready    | the probe answers, and the port belongs to the engine's own processes  |
    | starting | failed   | it exited, it took too long, or its port was taken                     |
    | starting | stopping | it is no longer wanted                                                 |
    | ready    | draining | it is no longer wanted; the requests in flight may end                 |
    | ready    | failed   | it exited and nobody had asked for that                                |
    | draining | stopping | the requests are done, or their time is over                           |
    | stopping | stopped  | every process of it is gone                                            |
    | failed   | starting | the backoff is over                                                    |
    | failed   | stopped  | it is no longer wanted                                                 |
    """

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"


TRANSITIONS = frozenset(
    {
        (State.STOPPED, State.STARTING),
        (State.STARTING, State.READY),
        (State.STARTING, State.FAILED),
        (State.STARTING, State.STOPPING),
        (State.READY, State.DRAINING),
        (State.READY, State.FAILED),
        (State.DRAINING, State.STOPPING),
        (State.STOPPING, State.STOPPED),
        (State.FAILED, State.STARTING),
        (State.FAILED, State.STOPPED),
    }
)

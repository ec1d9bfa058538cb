"""The states of an engine."""

import enum


class State(enum.StrEnum):
    """
    | from     | to       | when                                                                   |
    |----------|----------|------------------------------------------------------------------------|
    | stopped  | starting | it is wanted                                                           |
    | starting | ready    | the probe answers, and the port belongs to the engine's own processes  |
    | starting | failed   | it could not be started, or it exited and left nothing running         |
    | starting | stopping | it is no longer wanted, it takes too long, its port was taken, or it   |
    |          |          | exited and left something running or held GPUs                         |
    | starting | stopped  | it is no longer wanted, and nothing of it was started yet              |
    | ready    | draining | it is no longer wanted; the requests in flight may end                 |
    | ready    | stopping | it exited, nobody had asked for that, and it left something running    |
    |          |          | or held GPUs, whose memory is waited for                               |
    | ready    | failed   | the same, and it left nothing running                                  |
    | draining | stopping | the requests are done, or their time is over                           |
    | stopping | stopped  | every process of it is gone, and it is no longer wanted                |
    | stopping | failed   | every process of it is gone, and that was not wanted                   |
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
        (State.STARTING, State.STOPPED),
        (State.READY, State.DRAINING),
        (State.READY, State.STOPPING),
        (State.READY, State.FAILED),
        (State.DRAINING, State.STOPPING),
        (State.STOPPING, State.STOPPED),
        (State.STOPPING, State.FAILED),
        (State.FAILED, State.STARTING),
        (State.FAILED, State.STOPPED),
    }
)

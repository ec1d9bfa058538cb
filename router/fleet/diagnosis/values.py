"""What is known of an engine that failed, and what is made of it."""

import msgspec


class Diagnosis(msgspec.Struct, frozen=True):
    """Why an engine failed, for people.

    `cause` is one line without a path or a secret, fit for clients too. `evidence` is the line of the log that shows
    it, or the fact of the system: at most 300 characters, for the operator alone. `remedy` is one line: what to do.
    """

    cause: str
    evidence: str
    remedy: str


class Facts(msgspec.Struct, frozen=True):
    """What the system says. Bytes; None where it does not say.

    `oom_kills`: processes killed for want of memory since the run began. `disk_free`: where the engine keeps what it
    downloads. `port_taken_by`: who else listens on the engine's port.
    """

    oom_kills: int = 0
    disk_free: int | None = None
    shm_free: int | None = None
    port_taken_by: str | None = None


class Death(msgspec.Struct, frozen=True):
    """The end of one run of an engine.

    `engine` is the launcher's name. `log` is the end of what this run printed; its last 64 Ki characters are read.
    `exit` is as `os.waitstatus_to_exitcode` has it: negative is a signal, None is unknown. `waited`: the seconds after
    which the router gave up waiting for it to get ready and ended it; `exit` is then the router's doing.
    """

    engine: str
    log: str
    exit: int | None
    facts: Facts = Facts()
    waited: float | None = None

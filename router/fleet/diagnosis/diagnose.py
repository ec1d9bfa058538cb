"""From the end of a run to why it ended."""

from collections.abc import Iterable

import msgspec

from router.fleet.diagnosis import ends, gpu, host, models
from router.fleet.diagnosis.cause import Cause
from router.fleet.diagnosis.text import clean, evidence, last_line
from router.fleet.diagnosis.values import Death, Diagnosis

TABLE = (*gpu.CAUSES, *models.CAUSES, *host.CAUSES)
"""The first of two that show in the same line is told."""


class _Found(msgspec.Struct, frozen=True):
    cause: Cause
    start: int
    sign: int
    end: int


def diagnose(death: Death) -> Diagnosis | None:
    """Why it ended, or None where nobody can tell. Of causes that the log shows it is the last: what comes before may
    have been overcome, and tracebacks around it are in no table."""
    text = clean(death.log)
    return (
        ends.killed_for_memory(death)
        or _shown(death, text, (cause for cause in TABLE if not cause.secondary))
        or ends.by_facts(death)
        or _shown(death, text, (cause for cause in TABLE if cause.secondary))
        or ends.by_signal(death)
        or ends.by_waiting(death, text)
    )


def _shown(death: Death, text: str, causes: Iterable[Cause]) -> Diagnosis | None:
    found = [each for cause in causes if (each := _find(text, cause))]
    if not found:
        return None
    last = max(found, key=lambda each: each.start)  # the first of those in one line
    shown = evidence(text, last.start, last.sign, last.end)
    return Diagnosis(last.cause.cause, shown, last.cause.remedy_for(death.engine))


def _find(text: str, cause: Cause) -> _Found | None:
    places = [place for sign in cause.signs if (place := last_line(text, sign, warned=cause.warned))]
    return _Found(cause, *max(places)) if places else None

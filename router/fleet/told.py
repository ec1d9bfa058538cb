"""What others are told of engines: clients in a few words, admins all there is, people and commands a row each."""

import time
from collections.abc import Sequence

import msgspec

from router.catalog import Circuit
from router.fleet.engine import Engine
from router.fleet.rows import Row
from router.fleet.states import State

_TELLING = (State.FAILED, State.STARTING, State.READY)
"""Of a model's engines the one in the first of these states says most of why it does not serve."""


def foremost(engines: Sequence[Engine]) -> Engine:
    """Whose state the model's clients are told; `engines` are all of it, at least one."""
    return next((each for state in _TELLING for each in engines if each.state is state), engines[-1])


def outlook(engine: Engine) -> str:
    """For clients, and so without the engine's own words, which may hold anything."""
    if engine.state is State.FAILED:
        found = engine.findings.diagnosis if engine.findings else None
        why = f" ({found.cause})" if found else ""
        return f"its engine failed{why} and is started again; `router ps` says more"
    return f"its engine is {engine.state}"


def diagnosis(engines: Sequence[Engine]) -> dict[str, str] | None:
    """For admins: all there is on the first of them that failed and was not ready since."""
    failed = next((each for each in engines if each.findings is not None), None)
    if failed is None or failed.findings is None:
        return None
    found = failed.findings.diagnosis
    told = {} if found is None else msgspec.structs.asdict(found)
    return {**told, "error": failed.error or "", "log": failed.findings.log}


def row(engine: Engine, gpus: list[str] | None) -> Row:
    age = time.monotonic() - engine.since
    circuit = engine.target.circuit if engine.target is not None and engine.state is State.READY else None
    return Row(
        model=engine.spec.name,
        replica=engine.replica,
        engine=engine.spec.engine,
        state=engine.state,
        pid=engine.pid,
        address=None if engine.port is None else f"127.0.0.1:{engine.port}",
        gpus=gpus,
        uptime_s=round(age, 1) if engine.state is State.READY else None,
        restarts=engine.restarts,
        in_flight=0 if engine.target is None else engine.target.in_flight,
        error=engine.error or _WORDS.get(circuit or Circuit.CLOSED),
        diagnosis=engine.findings.diagnosis if engine.findings else None,
        state_s=round(age, 1),
        last_line=engine.last_line,
        circuit=circuit,
    )


_WORDS = {
    Circuit.OPEN: "gets no requests: it fails them, or does not answer its probe",
    Circuit.HALF_OPEN: "gets one request at a time: it failed those before",
}

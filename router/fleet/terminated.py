"""Models whose engines somebody has ended, though the file declares them."""

from router.config import EngineSpec
from router.fleet.rows import Row
from router.fleet.states import State

TERMINATED = "it was terminated; `POST /v1/models` with its name as `model_uid` launches it again"
"""What its clients are told."""


def terminated(spec: EngineSpec, replica: int) -> Row:
    """The place of one of its replicas, once nothing is in it any more."""
    return Row(
        model=spec.name,
        replica=replica,
        engine=spec.engine,
        state=State.STOPPED,
        pid=None,
        address=None,
        gpus=None,
        uptime_s=None,
        restarts=0,
        in_flight=0,
        error=None,
        state_s=0.0,
        last_line="",
        terminated=True,
    )

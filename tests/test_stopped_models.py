"""What those are told who wait for a model that somebody terminates."""

import asyncio

import pytest

from router.catalog import Address, Model, Target
from router.config.specs import Limits
from router.errors import Unavailable

pytestmark = pytest.mark.anyio

LIMITS = Limits(queue_timeout=60, queue_size=8, connect_timeout=1, response_timeout=1, stall_timeout=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_who_waits_at_a_busy_model_is_told_that_it_was_terminated_and_not_that_it_is_busy() -> None:
    """Its replica is taken away by the fleet, and that comes later."""
    model = Model("m", kind="chat", engine="test", limits=LIMITS)
    model.add(Target("m#0", Address("127.0.0.1", 1), served="m", limit=1))
    await model.claim()
    waiting = asyncio.ensure_future(model.claim())
    await asyncio.sleep(0)
    assert model.waiting == 1
    model.stop("it was terminated")
    for refused in (waiting, model.claim()):
        with pytest.raises(Unavailable, match="it was terminated") as error:
            await refused
        assert error.value.code == "model_not_ready"

"""A desk for each test."""

from collections.abc import AsyncIterator

import pytest
from desk import Desk
from desk import desk as open_desk
from running import make, up

__all__ = ["make", "up"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def desk(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Desk]:
    """At the end nothing is left in its books, and it has made no mistake."""
    async with open_desk() as one:
        yield one
    assert not [record for record in caplog.get_records("call") if record.exc_info]

"""The laboratory for each test, on uvloop as the router runs it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from lab import Lab, running


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def lab(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Lab]:
    """A running router; at the end nothing is left in its books, and it has made no mistake."""
    async with running() as lab:
        yield lab
    assert not [record for record in caplog.get_records("call") if record.exc_info]

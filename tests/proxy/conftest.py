"""The laboratory for each test, on uvloop as the router runs it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from lab import Lab, running


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with running() as lab:
        yield lab

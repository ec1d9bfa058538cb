"""Real engines behind one router, for real clients; and what was seen of them, in docs/compatibility.md.

The clients have an environment of their own, `.clients`, from `requirements.lock`, since some of them want an older
OpenAI SDK than the tests have. Node comes as a wheel too, and what runs on it stands in `node/node_modules`.
`make clients` makes both.
"""

from collections.abc import Iterator

import pytest
from e2e.real_router import RealRouter, router_up
from matrix import Matrix
from openai import OpenAI
from stand_in import StandIn, standing_in
from testbed import HERE, KEY, REPOSITORY, openai_tokens, short_folder

from demo.__main__ import make

_deselected = pytest.StashKey[bool]()


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        items[0].config.stash[_deselected] = True


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether every test of this folder is in the run, and none has failed so far."""
    items = request.session.items
    files = {item.path for item in items if item.path.parent == HERE}
    partly = any("::" in argument for argument in request.config.args)
    partly = partly or request.config.stash.get(_deselected, False) or request.session.testsfailed > 0
    return files == set(HERE.glob("test_*.py")) and not partly


@pytest.fixture(scope="session")
def matrix() -> Matrix:
    return Matrix()


@pytest.fixture(scope="session")
def stand_in() -> Iterator[StandIn]:
    with standing_in() as server:
        yield server


@pytest.fixture(scope="session")
def router(stand_in: StandIn) -> Iterator[RealRouter]:
    """Every engine of `engines.yaml`. Ended by SIGTERM after the last test, and then nothing may be left."""
    make(REPOSITORY / ".demo")
    variables = {"CLIENTS_KEY": KEY, "STAND_IN_PORT": str(stand_in.port), "TIKTOKEN_CACHE_DIR": openai_tokens()}
    with short_folder() as folder, router_up(str(HERE / "engines.yaml"), folder, variables) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def sdk(router: RealRouter) -> Iterator[OpenAI]:
    base = f"http://127.0.0.1:{router.port}/v1"
    with OpenAI(base_url=base, api_key=KEY, max_retries=0, timeout=120) as client:
        yield client

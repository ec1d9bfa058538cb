"""What `router up` says once all is ready."""

import json
from pathlib import Path

import pytest
from running import fake

from router.cli.screen import greeting, watch
from router.config import Config, load
from router.fleet.rows import Row

FILE = """
models:
  qwen:
    engine: vllm
    environment: venv
    model: org/name
    aliases: [gpt]
    lora: {qwen-sql: org/sql}
  cloud: {url: http://h/v1}
  any: {group: {qwen: 1, cloud: 1}, aliases: [all]}
"""


def test_it_names_all_that_can_be_asked(tmp_path: Path) -> None:
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/vllm").touch()
    (tmp_path / "router.yaml").write_text(FILE)
    lines = greeting(load(tmp_path / "router.yaml", list, {}), "http://127.0.0.1:8000").splitlines()
    assert lines[3:6] == ["  qwen   chat  also as gpt, qwen-sql", "  cloud  chat", "  any    chat  also as all"]
    assert lines[-1].startswith("curl http://127.0.0.1:8000/v1/chat/completions ")


class Ending:
    """A router that is asked to end while one of its two engines still starts: that one is gone first."""

    address = "http://127.0.0.1:8000"

    def __init__(self, config: Config) -> None:
        self.config = config
        self.looks = 0

    def rows(self) -> list[Row]:
        self.looks += 1
        if self.looks > 3:
            raise EOFError
        return [row("a", "ready"), row("b", "starting")][: 2 if self.looks == 1 else 1]


def row(model: str, state: str) -> Row:
    return Row(
        model=model, replica=0, engine="command", state=state, pid=1, address=None, gpus=None, uptime_s=None,
        restarts=0, in_flight=0, error=None, state_s=0.0, last_line="",
    )  # fmt: skip


@pytest.mark.anyio
async def test_what_ends_before_all_is_ready_never_says_that_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "router.yaml").write_text(json.dumps({"models": {"a": fake(), "b": fake()}}))
    caplog.set_level("INFO")
    router = Ending(load(tmp_path / "router.yaml", list, {}))
    with pytest.raises(EOFError):
        await watch(router, screen=False)
    assert router.looks == 4
    assert caplog.text == ""

"""What `router up` says once all is ready."""

from pathlib import Path

from router.cli.screen import greeting
from router.config import load

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

"""No file, however broken, ends in anything but a Config or a ConfigError, and soon."""

import random
import time
from pathlib import Path

import pytest

from router.config import ConfigError, load

GOOD = """\
listen: ${HOST:-127.0.0.1}:8000
keys: [{name: a, key: "0123456789"}]
defaults: &d {start_timeout: 10m, gpus: [0], env: {A: 1}}
models:
  chat:
    {<<: *d, engine: vllm, model: org/name, aliases: [x, "y"], options: {max_model_len: 5}, args: [--a, 1.5]}
  tuned: {engine: vllm, model: org/name, lora: {l: o/l}, environment: venv}
  far:
    url: https://h/v1
    api_key: 'k'
    aliases: {z: {set: {a: {b: 1}}, drop: [c.d]}, w: }
    default: {seed: 1}
    fallback: [both]
    info: {dimensions: 5}
  both: {group: {far: 2, chat: 1}}
log: {max_size: 5MiB, keep: 3}
"""
PIECES = (
    *"{}[]:,&*!|>'\"#%@`-?\n\t \\\0é",
    "<<: *d",
    "&d ",
    "*d",
    "${",
    "${X}",
    "}}",
    "null",
    ".nan",
    "1e999",
    "0x",
    "~",
)
PIECES += ("!!int ", "- ", ": ", "2024-01-01", "true", "--- ", '"\\ud800"', "9" * 30, "\ufeff", "\r", "? ")


def loads(folder: Path, text: str) -> list[str]:
    file = folder / "router.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(file, list, {"X": "x"})
    except ConfigError as error:
        return [fault.problem for fault in error.faults] or ["no fault"]
    return []


def mutated(random_: random.Random) -> str:
    text = GOOD
    for _ in range(random_.randint(1, 6)):
        at, to = sorted(random_.choices(range(len(text) + 1), k=2))
        cut = random_.choice((at, at, min(to, at + 8)))
        text = text[:at] + random_.choice((*PIECES, text[at:to])) + text[cut:]
    return text


def test_mutations_are_refused_with_faults_or_loaded(tmp_path: Path) -> None:
    random_, end, count = random.Random(7), time.monotonic() + 3, 0  # noqa: S311 - not a secret
    while time.monotonic() < end and count < 400:
        text = mutated(random_)
        try:
            found = loads(tmp_path, text)
        except Exception as error:
            error.add_note(text)
            raise
        count += 1
        assert "no fault" not in found
    assert count > 50


LISTS = "x-0: &x0 [1, 1]\n" + "".join(f"x-{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 60))
MERGES = "x-0: &x0 {a: 1}\n" + "".join(f"x-{n}: &x{n} {{<<: [*x{n - 1}, *x{n - 1}], k{n}: 1}}\n" for n in range(1, 60))
NESTED = "x-0: &x0 {a: 1}\n" + "".join(f"x-{n}: &x{n} {{a: *x{n - 1}}}\n" for n in range(1, 60))
ONE = "models: {a: {url: http://h}}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LISTS + ONE, ["the file means more than 50,000 values"]),
        (NESTED + ONE, ["more than 32 levels in one another"]),
        (MERGES + ONE, []),
        ("x-a: &a {<<: *a}\n" + ONE, []),
        ("x-a: " + "[" * 500_000, ["not YAML: too many levels in one another"]),
        ("x-a: " + "9" * 500_000 + "\n" + ONE, []),
        (f"{ONE}listen: {'9' * 500_000}", None),
        (f"{ONE}{'k' * 1000}: 1", ["unknown key"]),
        (ONE + "".join(f"k{n}: 1\n" for n in range(5000)), ["unknown key"] * 5000),
    ],
    ids=["lists", "levels", "merges", "self-merge", "brackets", "number", "address", "long key", "many keys"],
)
def test_a_bomb_is_bounded(tmp_path: Path, text: str, expected: list[str] | None) -> None:
    began = time.process_time()
    found = loads(tmp_path, text)
    assert expected is None or found == expected
    assert time.process_time() - began < 5

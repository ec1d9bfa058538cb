"""What the scripts share. Each is a client at work, in the clients' own environment, and prints JSON lines: first which
checks there will be, then one line for each with how it went. `tests/clients/test_real_clients.py` starts them."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

ROOT = os.environ["ROUTER_ROOT"]
"""The router's address without a path."""
BASE = f"{ROOT}/v1"
KEY = os.environ["ROUTER_KEY"]
MODELS: dict[str, dict[str, str]] = json.loads(os.environ["ROUTER_MODELS"])
"""By engine and kind."""
SENTENCE = os.environ["ROUTER_SENTENCE"]
"""What the tiny chat models say, over and over, from any of its words on."""
ASK = "Say something."
QUERY = "small engines"
DOCUMENTS = ["a lazy dog", "seven small engines", "a token"]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
NO_BLANKS = {"9": -100, "10": -100, "13": -100, "32": -100}
"""The tiny models would fill the places where JSON may have blanks with blanks for ever."""

Check = Callable[[str], object]
"""Asserts of one model. What it returns is ignored, but for a number: the status that was to be expected."""


def run(checks: Mapping[tuple[str, str, str], Check]) -> None:
    """`checks` by (kind, path, what): each for every engine that has a model of this kind."""
    todo = [
        (engine, models[kind], path, what, check)
        for engine, models in MODELS.items()
        for (kind, path, what), check in checks.items()
        if kind in models
    ]
    say({"expected": [[engine, path, what] for engine, _, path, what, _ in todo]})
    for engine, model, path, what, check in todo:
        outcome, detail = "ok", ""
        try:
            found = check(model)
            if type(found) is int:
                outcome = str(found)
        except Exception:
            outcome, detail = "FAILS", traceback.format_exc()[-1500:]
        say({"engine": engine, "path": path, "what": what, "outcome": outcome, "detail": detail})


def refusal(error: type[Exception], call: Callable[[], object]) -> Any:
    """The `error` that the call has to end with."""
    try:
        call()
    except error as found:
        return found
    raise AssertionError("it was answered")


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def is_said(text: str | None) -> None:
    words = " ".join((text or "").split())
    assert words, "nothing was said"
    assert words in f"{SENTENCE} {SENTENCE} {SENTENCE}", text


def is_ranked(results: list[tuple[int, float]]) -> None:
    """Of the three DOCUMENTS, best first."""
    assert sorted(index for index, _ in results) == [0, 1, 2], results
    scores = [score for _, score in results]
    assert scores == sorted(scores, reverse=True), results


def is_vector(vector: list[float]) -> None:
    assert len(vector) == 64
    assert any(vector)

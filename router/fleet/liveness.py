"""Whether a ready engine still serves: by what it answers to its clients, and where it says nothing by probes."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import anyio
import msgspec

from launchers.base import Command
from router.catalog import Model, Target
from router.fleet.probe import Question, answers, ready

AGAIN = 1.0
"""Seconds until the next look at an engine that failed one."""
SUSPICIOUS = 2
"""Failed looks after which it gets no more requests until it passes one."""
TOKEN_TIMEOUT = 60.0
"""Seconds for the one token of a deep probe: a prompt of one word, at an engine that has nothing else to do or fails at
it."""


class Wedged(Exception):
    """It lives and does not serve. The message says what it was asked."""


class Care(Protocol):
    """How an engine is watched; times in seconds."""

    @property
    def liveness_interval(self) -> float: ...
    @property
    def liveness_timeout(self) -> float: ...
    @property
    def liveness_failures(self) -> int: ...
    @property
    def deep_probe(self) -> bool: ...


class Liveness:
    """One ready engine. A look is, in this order: what it said to clients since the last one, its liveness probe, and
    one token, where `deep_probe` wants it or its answers to clients are in doubt."""

    def __init__(
        self, model: Model, target: Target, command: Command, port: int, key: str, care: Callable[[], Care]
    ) -> None:
        self._model, self._target, self._command, self._port, self._key = model, target, command, port, key
        self._care = care
        self._doubt = anyio.Event()
        target.suspect = self._suspect
        self._heard = target.heard

    def _suspect(self, _target: Target) -> None:
        """Its clients' requests fail, and the circuit is open."""
        self._doubt.set()

    async def watch(self) -> None:
        """Raises Wedged."""
        failures, doubted = 0, False
        while True:
            care = self._care()
            with anyio.move_on_after(AGAIN if failures else care.liveness_interval):
                await self._doubt.wait()
            doubted = doubted or self._doubt.is_set()
            self._doubt = anyio.Event()
            fault = await self._fault(care, doubted=doubted)
            if not fault:
                if failures or doubted:
                    self._model.close_circuit(self._target)
                failures, doubted = 0, False
                continue
            failures += 1
            if failures >= min(SUSPICIOUS, care.liveness_failures) or doubted:
                self._model.open_circuit(self._target)
            if failures >= care.liveness_failures:
                raise Wedged(f"{fault}, {failures} times in a row")

    async def _fault(self, care: Care, *, doubted: bool) -> str:
        """What is wrong; nothing if it serves."""
        target = self._target
        if target.heard != self._heard and not doubted:
            self._heard = target.heard
            return ""
        if not await ready(self._command.liveness, self._port, self._key, care.liveness_timeout):
            return f"it does not answer {self._command.liveness.path} as it should"
        if not doubted and (not care.deep_probe or target.in_flight):
            return ""
        question = one_token(self._model.kind, self._command, self._key)
        heard = target.heard
        if question is None or await answers(question, self._port, TOKEN_TIMEOUT):
            return ""
        if target.heard == heard:  # else it was busy with somebody else's
            return f"it does not answer a short request to {question.path}"
        return ""


_WORD = "Hi"
_TOKENS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": _WORD}], "max_tokens": 1}),
    "embedding": ("/v1/embeddings", {"input": _WORD}),
    "rerank": ("/v1/rerank", {"query": _WORD, "documents": [_WORD]}),
}


def one_token(kind: str, command: Command, key: str) -> Question | None:
    """The least that an engine of this kind can be asked; None where that is unknown, or asks for a file."""
    path, body = _TOKENS.get(kind, ("", {}))
    own = command.paths.get(path)
    if own is None:
        return None
    if kind == "rerank" and command.dialect.texts:
        body = {"query": _WORD, "texts": [_WORD]}
    return Question(own, msgspec.json.encode({"model": command.served, **body}), key)

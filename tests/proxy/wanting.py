"""What the tests of dialects share: what the file may say of a model, and an engine that differs in nothing."""

import msgspec

from launchers.base import Dialect


class Wants(msgspec.Struct, frozen=True):
    normalize_scores: bool = False
    decode_openai_tokens: bool = False
    max_inputs: int | None = None


PLAIN = Dialect()
NOTHING = Wants()

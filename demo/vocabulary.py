"""The words of the tiny models: one sentence, a byte-level BPE with a token for each of its words, a chat template."""

from dataclasses import dataclass
from typing import Final

SENTENCE: Final = (
    "the quick brown fox jumps over a lazy dog and then seven small engines answer one after another "
    "while their router counts every single token it sends back"
)
WORDS: Final = tuple(SENTENCE.split())
ROLES: Final = ("system", "user", "assistant")

END_OF_TEXT: Final = "<|endoftext|>"
TURN_START: Final = "<|im_start|>"
TURN_END: Final = "<|im_end|>"
PAD: Final = "<|pad|>"
SPECIAL: Final = (END_OF_TEXT, TURN_START, TURN_END, PAD)

CHAT_TEMPLATE: Final = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE. A token's id is its place in `tokens`; the last ones are `SPECIAL`."""

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    sentence: tuple[int, ...]  # the ids of " the", " quick", …: what a chat model recites

    def id(self, token: str) -> int:
        return self.tokens.index(token)


def build() -> Vocabulary:
    alphabet = _byte_alphabet()
    tokens = list(alphabet)
    merges: list[tuple[str, str]] = []
    spaced = [" " + word for word in WORDS]
    for text in (*spaced, *ROLES):
        encoded = _encode(text, alphabet)
        for end in range(2, len(encoded) + 1):
            if encoded[:end] not in tokens:
                tokens.append(encoded[:end])
                merges.append((encoded[: end - 1], encoded[end - 1]))
    sentence = tuple(tokens.index(_encode(text, alphabet)) for text in spaced)
    return Vocabulary((*tokens, *SPECIAL), tuple(merges), sentence)


def _encode(text: str, alphabet: tuple[str, ...]) -> str:
    return "".join(alphabet[byte] for byte in text.encode())


def _byte_alphabet() -> tuple[str, ...]:
    """GPT-2's printable stand-in for each of the 256 bytes: itself where it prints, else the next from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    rest = [byte for byte in range(256) if byte not in printable]
    return tuple(chr(byte if byte in printable else 256 + rest.index(byte)) for byte in range(256))

"""How many tokens an engine says an answer took."""

import re

_PROMPT = re.compile(rb'"(?:prompt_tokens|input_tokens)"\s*+:\s*+(\d{1,12})')
_COMPLETION = re.compile(rb'"(?:completion_tokens|output_tokens)"\s*+:\s*+(\d{1,12})')


def tokens(part: bytes) -> tuple[int | None, int | None]:
    """Prompt's and completion's, from the last `usage` in this part of an answer. A text that only speaks of such a
    thing has its quotes escaped, so it is not taken for one."""
    start = part.rfind(b'"usage"')
    if start < 0:
        return None, None
    prompt, completion = _PROMPT.search(part, start), _COMPLETION.search(part, start)
    return int(prompt[1]) if prompt else None, int(completion[1]) if completion else None

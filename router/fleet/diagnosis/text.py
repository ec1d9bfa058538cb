"""A log as it is read: without colours and overwritten progress, and what counts in it."""

import re

LONGEST = 2**16
"""Characters at a log's end that are read."""
EVIDENCE = 300

_COLOURS = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\x1b]*\x07)")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z ")
"""As the keeper writes it in front of each line."""
_SPEAKER = re.compile(r"(?:\([^()\n]{1,80}\) ?){0,4}")
"""vLLM's processes: `(EngineCore_DP0 pid=17) (Worker_TP0 pid=19) `."""
_LEVELS = re.compile(
    r"(?P<vllm>[A-Z]+) \d\d-\d\d [\d:]+ \[[^\]\n]{1,80}\] ?|"
    r"(?P<llama>[\d.]+ [A-Z]) |"
    r"(?P<uvicorn>[A-Z]+): {2,}|"
    r"(?P<infinity>[A-Z]+) +\d{4}-\d\d-\d\d "
)
_HARMLESS = ("DEBUG", "INFO", "WARNING")
_TOKENS = re.compile(r"\bhf_\w{8,}")


def clean(log: str) -> str:
    """The end of a log in plain lines; each state of a progress line is one of its own."""
    return _COLOURS.sub("", log[-LONGEST:]).replace("\r\n", "\n").replace("\r", "\n")


def last_line(text: str, sign: str, *, warned: bool) -> tuple[int, int, int] | None:
    """The last line that holds `sign`: where it begins, where in it the sign begins, and its end. What its engine says
    as no more than a warning does not count; a warning does if `warned`."""
    first, *rest = sign.split("…")
    found = text.rfind(first)
    while found >= 0:
        start, end = text.rfind("\n", 0, found) + 1, text.find("\n", found)
        end = len(text) if end < 0 else end
        if _follows(text, rest, found + len(first), end) and _counts(text[start : start + 300], warned):
            return start, found, end
        found = text.rfind(first, 0, start)
    return None


def _follows(text: str, parts: list[str], position: int, end: int) -> bool:
    for part in parts:
        position = text.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def _counts(line: str, warned: bool) -> bool:
    """Whether a line's level lets it count: what is only a warning is no reason to end."""
    level = _level(line)
    return level not in _HARMLESS or (warned and level == "WARNING")


def _level(line: str) -> str:
    match = _LEVELS.match(line, _head(line))
    if match is None:
        return ""
    if match["llama"]:
        return {"I": "INFO", "W": "WARNING", "D": "DEBUG"}.get(match["llama"][-1], "")
    return match["vllm"] or match["uvicorn"] or match["infinity"]


def _head(line: str) -> int:
    """Where a line's own words begin, after the time and who says it."""
    time = _TIME.match(line)
    speaker = _SPEAKER.match(line, time.end() if time else 0)
    return speaker.end() if speaker else 0


def evidence(text: str, start: int, sign: int, end: int) -> str:
    """The line's words around the sign, without time, speaker, level and tokens of the hub."""
    head = text[start : start + 300]
    begin = _head(head)
    level = _LEVELS.match(head, begin)
    begin = start + (level.end() if level else begin)
    if end - begin > EVIDENCE and sign - begin > EVIDENCE // 3:
        begin = sign - EVIDENCE // 3
    return _TOKENS.sub("hf_…", text[begin:end]).strip(" │\t")[:EVIDENCE]

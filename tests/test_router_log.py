"""The router's own log, by a process that logs."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from router.log import OWN

ROOT = Path(__file__).parents[1]
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def logged(style: str, code: str, level: str = "INFO") -> list[str]:
    """The lines on stderr."""
    setup = (
        f"import logging, sys\nfrom router.log import configure\nconfigure({style!r}, logging.{level}, sys.stderr)\n"
    )
    names = "log, other = logging.getLogger('router.proxy'), logging.getLogger('uvicorn.error')\n"
    done = subprocess.run(
        [sys.executable, "-c", setup + names + code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def objects(code: str, **given: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged("json", code, **given)]


def test_text_is_a_line_with_time_level_logger_and_message() -> None:
    (line,) = logged("text", "log.info('%s is %s', 'qwen#0', 'ready', extra={'model': 'qwen'})")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO router\.proxy: qwen#0 is ready", line)


def test_json_has_the_values_given_as_fields_of_their_own() -> None:
    (fields,) = objects("log.warning('%s failed', 'qwen#0', extra={'model': 'qwen', 'replica': 0, 'exit': None})")
    assert re.fullmatch(TIME, fields.pop("time"))
    assert fields == {
        "level": "warning",
        "logger": "router.proxy",
        "message": "qwen#0 failed",
        "model": "qwen",
        "replica": 0,
        "exit": None,
    }


def test_an_exception_is_a_field_and_the_record_one_line() -> None:
    code = "try: 1 / 0\nexcept ZeroDivisionError: log.exception('a request to %s failed', '/v1/embeddings')"
    (fields,) = objects(code)
    assert fields["message"] == "a request to /v1/embeddings failed"
    assert fields["exception"].startswith("Traceback (most recent call last):\n")
    assert fields["exception"].endswith("\nZeroDivisionError: division by zero")


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb\x00\x1b[31m", "ü\u2028€", "\udcff", '"}{'])
def test_whatever_a_message_holds_it_is_one_line_of_ascii(text: str) -> None:
    (line,) = logged("json", f"log.info({text!r})")
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == text


def test_what_json_does_not_have_becomes_text_and_no_value_takes_a_field_of_the_records_own() -> None:
    code = (
        "from pathlib import Path\n"
        "log.info('x', extra={'file': Path('/a'), 'some': {'b': (1, {2})}, 'time': 0, 'level': 0, 'logger': 0})"
    )
    (fields,) = objects(code)
    assert (fields["file"], fields["some"]) == ("/a", {"b": [1, "{2}"]})
    assert (fields["level"], fields["logger"]) == ("info", "router.proxy")
    assert re.fullmatch(TIME, fields["time"])


def test_uvicorns_and_other_libraries_warnings_have_the_same_form() -> None:
    code = "other.info('no')\nother.error('Cancel 3 running task(s)')\nother.error('yes')\nlogging.warning('also')"
    found = objects(code)
    assert [(each["logger"], each["message"]) for each in found] == [("uvicorn.error", "yes"), ("root", "also")]
    assert [line.split(" ", 2)[2] for line in logged("text", code)] == [
        "ERROR uvicorn.error: yes",
        "WARNING root: also",
    ]


def test_the_level_holds_for_the_routers_own() -> None:
    code = "log.debug('debug')\nlog.info('info')\nlog.warning('warning')"
    assert [each["message"] for each in objects(code, level="WARNING")] == ["warning"]
    assert [each["message"] for each in objects(code, level="DEBUG")] == ["debug", "info", "warning"]


def test_a_terminal_that_has_gone_is_no_fault() -> None:
    assert logged("json", "import os\nos.close(2)\nlog.warning('x')\nlogging.shutdown()\nos._exit(0)") == []


def test_no_attribute_of_the_librarys_own_records_is_taken_for_a_value() -> None:
    record = logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "m", (), None, "function", None, "stack")
    assert set(vars(record)) <= OWN

"""The router's own log: text for people, or one JSON object a line for machines.

A record's values are for machines: `log.info("%s failed", name, extra={"model": name})` puts `model` into the JSON as a
field of its own; the text has what the message says.
"""

import json
import logging
import time
from typing import Literal, TextIO

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
OWN = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"})
"""What a record has of the library's (and uvicorn's) own."""


def configure(style: Literal["text", "json"], level: int, stream: TextIO) -> None:
    """All loggers write to `stream`: the router's from `level` on, the libraries', uvicorn's too, from WARNING on. A
    stream that has gone is no fault."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json() if style == "json" else logging.Formatter(TEXT))
    logging.basicConfig(handlers=[handler])
    logging.raiseExceptions = False
    logging.getLogger("router").setLevel(level)
    # uvicorn calls the end of `drain_timeout` an error.
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancelling)


def _is_no_cancelling(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Cancel ")


class Json(logging.Formatter):
    """{time, level, logger, message, the values given as `extra`, exception}: one line, ASCII alone. `time` in UTC, as
    in the other logs. A value that JSON does not have becomes text."""

    def format(self, record: logging.LogRecord) -> str:
        seconds, milliseconds = divmod(int(record.created * 1000), 1000)
        fields: dict[str, object] = {
            "time": time.strftime(f"%Y-%m-%dT%H:%M:%S.{milliseconds:03}Z", time.gmtime(seconds)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = {name: value for name, value in vars(record).items() if name not in OWN and name not in fields}
        fields.update(given)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps(fields, default=str, skipkeys=True, separators=(",", ":"))

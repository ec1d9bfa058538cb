"""Values of the file that travel as JSON: in requests (`set`, `default`) and in `/v1/models` (`info`)."""

import math
from typing import Any

from router.config.document import Document
from router.config.faults import Where

LARGEST = 2**63
"""Beyond it readers of JSON disagree on whole numbers."""


def check(document: Document, value: Any, where: Where) -> None:
    """The faults of what JSON cannot hold. They never show a value: it may be a secret."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            check(document, part, (*where, key))
    elif isinstance(value, float) and not math.isfinite(value):
        document.fault(where, "not a number that JSON has", "write a finite number")
    elif isinstance(value, int) and not -LARGEST <= value < LARGEST:
        document.fault(where, "too large a number for JSON", "write a smaller one, or put it in quotes")

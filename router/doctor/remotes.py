"""Models that servers elsewhere serve."""

import socket

from router.config import RemoteSpec
from router.doctor.check import Check, ok, warning

PATIENCE = 2.0
"""Seconds for a connection to open."""


def check_remote(spec: RemoteSpec) -> Check:
    """Whether somebody listens there: nothing is sent."""
    try:
        socket.create_connection((spec.host, spec.port), PATIENCE).close()
    except OSError as error:
        what = f"{spec.name}: {spec.host}:{spec.port} does not answer: {error.strerror or error}"
        return warning(what, "start that server, or correct `url`")
    return ok(f"{spec.name}: {spec.host}:{spec.port} answers")

"""`listen:`, and whether others can reach it."""

import ipaddress
import re

from router.config.document import Document

_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")
_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9._-]+")
_HERE = ("listen",)


def address(document: Document, text: str) -> tuple[str, int] | None:
    """Host and port; None with its fault in the document. Port 0 is any free one."""
    match = _ADDRESS.fullmatch(text)
    if match is not None and int(match[3]) < 65536 and _is_host(match[1], match[2]):
        return match[1] or match[2], int(match[3])
    document.fault(_HERE, f"{document.show(text)} is not an address and a port", _remedy(text))
    return None


def check_reach(document: Document, text: str, host: str, auth: str, *, declared: bool) -> None:
    """Beyond this machine somebody has to check who asks. `declared`: whether there are `keys`."""
    if is_loopback(host) or declared or auth == "none":
        return
    problem = f"{document.show(text)} can be reached from other machines and no `keys` are set"
    document.fault(_HERE, problem, "add `keys:`, listen on 127.0.0.1, or say `auth: none`")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_host(v6: str | None, other: str | None) -> bool:
    try:
        return ipaddress.ip_address(v6 or other or "").version == (6 if v6 else 4)
    except ValueError:
        return other is not None and _NAME.fullmatch(other) is not None


def _remedy(text: str) -> str:
    port = re.fullmatch(r"(?:\*?:)?([0-9]{1,5})", text)
    if port:
        return f"write 127.0.0.1:{port[1]} for this machine alone, or 0.0.0.0:{port[1]} for every address"
    if "://" in text:
        return "leave out the scheme: 127.0.0.1:8000"
    if ":" not in text.rpartition("]")[2]:
        return "add the port: 127.0.0.1:8000"
    return "write it like 127.0.0.1:8000, localhost:8000 or [::1]:8000; a port is at most 65535"

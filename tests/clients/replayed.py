"""Requests as they come from programs that are not run here: the headers of their HTTP libraries, and their own."""

import json
from typing import Any

from http_wire import Answer, ask
from testbed import KEY

BEARER = f"Authorization: Bearer {KEY}"
REQUESTS = ("User-Agent: python-requests/2.32.5", "Accept-Encoding: gzip, deflate", "Accept: */*")
AXIOS = (
    "Accept: application/json, text/plain, */*",
    "User-Agent: axios/1.13.2",
    "Accept-Encoding: gzip, compress, deflate, br",
)
AIOHTTP = ("Accept: */*", "Accept-Encoding: gzip, deflate, br", "User-Agent: Python/3.11 aiohttp/3.13.2")
CLAUDE_CODE = (
    "accept: application/json",
    "anthropic-beta: claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27",
    "anthropic-dangerous-direct-browser-access: true",
    "anthropic-version: 2023-06-01",
    f"x-api-key: {KEY}",
    "content-type: application/json",
    "user-agent: claude-cli/2.0.46 (external, cli)",
    "x-app: cli",
    "x-stainless-arch: x64",
    "x-stainless-helper-method: stream",
    "x-stainless-lang: js",
    "x-stainless-os: Linux",
    "x-stainless-package-version: 0.66.0",
    "x-stainless-retry-count: 0",
    "x-stainless-runtime: node",
    "x-stainless-runtime-version: v22.20.0",
    "x-stainless-timeout: 600",
    "accept-language: *",
    "sec-fetch-mode: cors",
    "accept-encoding: br, gzip, deflate",
)


def requests_json(port: int, path: str, body: object, *headers: str) -> Answer:
    """`requests.post(url, headers=…, json=body)`."""
    return ask(
        port, path, _dumped(body), *REQUESTS, "Connection: keep-alive", "Content-Type: application/json", *headers
    )


def axios_json(port: int, path: str, body: object, *headers: str) -> Answer:
    """`axios.post(url, body, {headers})`: what is undefined is left out, and JSON has no blanks."""
    content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return ask(port, path, content, *AXIOS, "Content-Type: application/json", *headers, "Connection: keep-alive")


def requests_get(port: int, path: str, *headers: str) -> Answer:
    return ask(port, path, None, *REQUESTS, "Connection: keep-alive", *headers)


def form(fields: dict[str, str], file: bytes, name: str = "audio.mp3") -> tuple[bytes, str]:
    """(body, its header), with the fields before the file."""
    boundary = "----form-0123456789abcdef"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in fields.items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    parts += [head.encode(), b"Content-Type: audio/mpeg\r\n\r\n", file, f"\r\n--{boundary}--\r\n".encode()]
    return b"".join(parts), f"Content-Type: multipart/form-data; boundary={boundary}"


def dify_chunks(stream: bytes) -> list[dict[str, Any]]:
    """How Dify's plugin reads a stream: cut at blank lines of LF alone; comments are skipped, all else is `data:` and
    JSON with `choices`."""
    chunks = []
    for piece in stream.decode().split("\n\n"):
        text = piece.strip()
        if not text or text.startswith(":"):
            continue
        data = text.strip().removeprefix("data:").lstrip()
        if data != "[DONE]":
            chunk = json.loads(data)
            assert isinstance(chunk["choices"], list)
            chunks.append(chunk)
    return chunks


def named_events(stream: bytes) -> list[tuple[str, Any]]:
    """How Anthropic's clients read one: events of a name and a line of JSON."""
    found = []
    for event in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def _dumped(body: object) -> bytes:
    """As Python's `json.dumps`, and so with `null` and escapes."""
    return json.dumps(body).encode()

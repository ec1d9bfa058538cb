"""Every error the router answers with, rendered once as OpenAI's envelope.

RouterError                    status  type                     code
├── InvalidRequest             400     invalid_request_error    invalid_json, missing_model, …
│   ├── BodyTimeout            408     invalid_request_error    body_timeout
│   ├── TooLarge               413     invalid_request_error    body_too_large
│   ├── HeadTooLarge           431     invalid_request_error    headers_too_large
│   └── UnsupportedMedia       415     invalid_request_error    unsupported_media_type
├── Unauthenticated            401     authentication_error     invalid_api_key
├── Forbidden                  403     permission_error         permission_denied
├── NotFound                   404     invalid_request_error    not_found
│   └── ModelNotFound          404     invalid_request_error    model_not_found
├── MethodNotAllowed           405     invalid_request_error    method_not_allowed
├── NotSupported               501     invalid_request_error    not_supported_by_model
├── Unavailable                503     service_unavailable      model_not_ready, model_busy, queue_full, shutting_down
└── UpstreamError              502     upstream_error           engine_failed
    └── UpstreamTimeout        504     upstream_error           engine_timeout
"""

from collections.abc import Mapping
from typing import Any

import msgspec


class RouterError(Exception):
    """An answer the router itself gives. `message` tells the client what is wrong and what to do about it."""

    status = 500
    type = "server_error"
    code = "internal_error"
    closes = False
    """Whether the connection ends with it, as nobody knows what the rest of the body would be."""

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.param = param
        self.retry_after = retry_after
        """Seconds, sent as `Retry-After`."""
        self.diagnosis: Mapping[str, str] | None = None
        """Why an engine failed, with the end of its log: for admins alone."""

    def envelope(self, *, full: bool = False) -> bytes:
        """The JSON body: OpenAI's `error` object, and `detail` for the clients that read only that. `full`: for an
        admin."""
        return msgspec.json.encode(self._content(full=full))

    def _content(self, *, full: bool = False) -> dict[str, Any]:
        error: dict[str, Any] = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        if full and self.diagnosis is not None:
            error["diagnosis"] = self.diagnosis
        return {"error": error, "detail": self.message}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of a whole answer with `envelope()` as its body, but for its length."""
        headers = [(b"content-type", b"application/json")]
        if self.retry_after is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after))
        return headers

    def event(self, *, named: bool) -> bytes:
        """The same as the last event of a stream that had begun. `named`: its events have names and types (Anthropic's,
        and OpenAI's responses), and clients pass over one that has none."""
        if named:
            return b"event: error\ndata: " + msgspec.json.encode({"type": "error", **self._content()}) + b"\n\n"
        return b"data: " + self.envelope() + b"\n\n"


class InvalidRequest(RouterError):
    status, type, code = 400, "invalid_request_error", "invalid_request"


class BodyTimeout(InvalidRequest):
    status, code = 408, "body_timeout"
    closes = True


class TooLarge(InvalidRequest):
    status, code = 413, "body_too_large"


class HeadTooLarge(InvalidRequest):
    status, code = 431, "headers_too_large"


class UnsupportedMedia(InvalidRequest):
    status, code = 415, "unsupported_media_type"


class Unauthenticated(RouterError):
    status, type, code = 401, "authentication_error", "invalid_api_key"

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), (b"www-authenticate", b"Bearer")]


class Forbidden(RouterError):
    status, type, code = 403, "permission_error", "permission_denied"


class NotFound(RouterError):
    status, type, code = 404, "invalid_request_error", "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(RouterError):
    status, type, code = 405, "invalid_request_error", "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [*super().headers(), (b"allow", self.allow.encode())]


class NotSupported(RouterError):
    status, type, code = 501, "invalid_request_error", "not_supported_by_model"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """OpenAI's and Anthropic's SDKs would ask again otherwise."""
        return [*super().headers(), (b"x-should-retry", b"false")]


class Unavailable(RouterError):
    status, type, code = 503, "service_unavailable", "model_not_ready"


class UpstreamError(RouterError):
    status, type, code = 502, "upstream_error", "engine_failed"


class UpstreamTimeout(UpstreamError):
    status, code = 504, "engine_timeout"

"""Every error that Broker answers with: a code, a status, a sentence. One mapping to HTTP, in ``web/problems.py``."""

from __future__ import annotations

import msgspec


class BrokerError(Exception):
    """The root. ``detail`` is for the person at the other end: what was wrong, where, and what to do."""

    code = "internal"
    status = 500
    title = "Internal error"

    def __init__(self, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.index: int | None = None  # of the record in its batch that is at fault


class BadRequest(BrokerError):
    code = "bad-request"
    status = 400
    title = "Bad request"


class Unauthorized(BrokerError):
    code = "unauthorized"
    status = 401
    title = "Unauthorized"


class Forbidden(BrokerError):
    code = "forbidden"
    status = 403
    title = "Forbidden"


class NotFound(BrokerError):
    code = "not-found"
    status = 404
    title = "Not found"


class MethodNotAllowed(BrokerError):
    code = "method-not-allowed"
    status = 405
    title = "Method not allowed"

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(f"{method} is not allowed here; use {allow}")
        self.allow = allow


class RequestTimeout(BrokerError):
    code = "request-timeout"
    status = 408
    title = "Request timeout"


class Conflict(BrokerError):
    code = "conflict"
    status = 409
    title = "Conflict"


class TooLarge(BrokerError):
    code = "too-large"
    status = 413
    title = "Too large"


class UnsupportedMediaType(BrokerError):
    code = "unsupported-media-type"
    status = 415
    title = "Unsupported media type"


class UnsupportedEncoding(UnsupportedMediaType):
    """The body is compressed (RFC 9110, section 15.5.16)."""


class TooManyRequests(BrokerError):
    code = "too-many-requests"
    status = 429
    title = "Too many requests"


class HeadTooLarge(BrokerError):
    code = "head-too-large"
    status = 431
    title = "Request header fields too large"


class Unavailable(BrokerError):
    """For now only: what was asked may be asked again after ``retry_after_s``."""

    code = "unavailable"
    status = 503
    title = "Unavailable"

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class InsufficientStorage(BrokerError):
    code = "insufficient-storage"
    status = 507
    title = "Insufficient storage"


class SettingsError(BrokerError):
    """A setting is wrong or the data folder cannot be used: Broker does not start. Never sent over HTTP."""

    code = "settings"
    title = "Settings"


def encode_problem(problem: BrokerError) -> bytes:
    """As ``application/problem+json`` (RFC 9457)."""
    # A detail may have a name in it that cannot be written as UTF-8.
    detail = problem.detail.encode(errors="replace").decode()
    document = {
        "type": f"urn:broker:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
    }
    if problem.index is not None:
        document |= {"detail": f"record {problem.index}: {detail}", "index": problem.index}
    return msgspec.json.encode(document)

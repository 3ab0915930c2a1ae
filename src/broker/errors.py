"""Every error that Broker responds with. ``web/problems.py`` is the one place that maps them to HTTP responses."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec


class BrokerError(Exception):
    """The base class of all errors. An error of this class itself means that something went wrong in the server.

    ``detail`` is for the person who made the request: what was wrong, where, and what to do. ``index`` is the index, in
    its batch, of the record at fault. ``retry_after_s`` is the number of seconds after which the same request may
    succeed."""

    code = "internal"
    status = 500
    title = "Internal error"

    def __init_subclass__(cls, *, status: int = 0, code: str = "", title: str = "") -> None:
        """``code`` is the end of the problem's type URN, which clients rely on. ``title`` is the phrase of the HTTP
        status if it is left out. To a client, a subclass without arguments is the same problem as its base class."""
        if status:
            cls.status, cls.code = status, code
            cls.title = title or HTTPStatus(status).phrase.capitalize()

    def __init__(self, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.index: int | None = None
        # Further members of the problem document (RFC 9457, section 3.2): their names, and their JSON.
        self.members: dict[str, bytes] = {}


class BadRequest(BrokerError, status=400, code="bad-request"):
    """A request, or a value in it, breaks the rules of docs/http.md."""


class Unauthorized(BrokerError, status=401, code="unauthorized"):
    """There is no token, or it is not valid; or the password is wrong."""


class Forbidden(BrokerError, status=403, code="forbidden"):
    """This is not allowed to the caller, whether or not it is known who the caller is."""


class NotFound(BrokerError, status=404, code="not-found"):
    """There is nothing at this path, or no such record."""


class MethodNotAllowed(BrokerError, status=405, code="method-not-allowed"):
    """This method is not allowed for the path. ``allow`` is the value of the header ``Allow``."""

    def __init__(self, method: str, allow: str) -> None:
        super().__init__(f"{method} is not allowed here; use {allow}")
        self.allow = allow


class RequestTimeout(BrokerError, status=408, code="request-timeout"):
    """The client sent its request too slowly."""


class Conflict(BrokerError, status=409, code="conflict"):
    """The state of the log or of the users does not allow this: the name is taken, the record is published."""


def name_taken(username: str) -> Conflict:
    """Returns the refusal of a sign-up. It is the same for a name that an erased user had."""
    return Conflict(f"the user name {username} is taken")


class Late(Conflict, status=409, code="late"):
    """The time of the record has passed, and the insert asked to be refused in this case."""


class PreconditionFailed(BrokerError, status=412, code="not-latest", title="Precondition failed"):
    """The event's latest version is not the one that the insert names in ``if_latest``.

    ``latest`` is the record that is the latest now. It is None if the event has no latest record. Its type is
    ``records.Record``, which this module cannot import."""

    latest: Any = None


class TooLarge(BrokerError, status=413, code="too-large", title="Too large"):
    """The body, or the number of records in it, exceeds a limit."""


class UnsupportedMediaType(BrokerError, status=415, code="unsupported-media-type"):
    """The body has another media type or charset than the endpoint supports."""


class UnsupportedEncoding(UnsupportedMediaType):
    """The body is compressed, and the response says in ``Accept-Encoding`` that it must not be (RFC 9110, 15.5.16)."""


class TooManyRequests(BrokerError, status=429, code="too-many-requests"):
    """This client, or this user, has exceeded a limit that applies to each client or user separately."""


class HeadTooLarge(BrokerError, status=431, code="head-too-large"):
    """The request line and the headers together exceed a limit."""


class Unavailable(BrokerError, status=503, code="unavailable", title="Unavailable"):
    """The server cannot do this now: the same request may succeed after ``retry_after_s``."""

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)


class InsufficientStorage(BrokerError, status=507, code="insufficient-storage"):
    """The disk, or a limit on what is kept, has no room for this."""


class QuotaExceeded(Forbidden, status=403, code="quota-exceeded", title="Quota exceeded"):
    """The user has as much of what is kept as one user may have. The detail has the user's own numbers alone.

    It is no 507, because clients repeat what the server could not do, and this would only wait in front of the removal
    that makes room."""


class SettingsError(BrokerError, status=500, code="settings", title="Settings"):
    """An operator has to act: a setting is wrong, or what it names cannot be used. Broker does not start, or a command
    ends. It is never sent over HTTP."""


def encode_problem(problem: BrokerError) -> bytes:
    """The body of an ``application/problem+json`` response (RFC 9457)."""
    # The detail may quote a name that contains half a surrogate pair, which UTF-8 cannot express.
    detail = problem.detail.encode(errors="replace").decode()
    document: dict[str, Any] = {
        "type": f"urn:broker:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
    }
    if problem.index is not None:
        document |= {"detail": f"record {problem.index}: {detail}", "index": problem.index}
    document |= {name: msgspec.Raw(json) for name, json in problem.members.items()}
    return msgspec.json.encode(document) + b"\n"

"""The one mapping of errors to HTTP: ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from broker.errors import (
    BrokerError,
    MethodNotAllowed,
    NotFound,
    Unauthorized,
    UnsupportedEncoding,
    encode_problem,
)
from broker.web.credentials import InvalidCookie
from broker.web.requests import NO_STORE, Header, Response


def problem_of(error: Exception) -> BrokerError:
    """The error that a client receives for ``error``. What was not foreseen is for the server's log alone."""
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return NotFound("there is nothing at this URL; GET /docs shows what there is")
    return BrokerError("something went wrong in the server; its log says what")


def problem_response(problem: BrokerError) -> Response:
    headers: list[Header] = [*NO_STORE]  # what is not found today may be there tomorrow
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % problem.retry_after_s))
    if isinstance(problem, Unauthorized):
        headers.append((b"www-authenticate", b'Bearer realm="broker"'))
    if isinstance(problem, InvalidCookie):
        headers.append(problem.header)
    if isinstance(problem, UnsupportedEncoding):
        headers.append((b"accept-encoding", b"identity"))
    if isinstance(problem, MethodNotAllowed):
        headers.append((b"allow", problem.allow.encode()))
    return Response(problem.status, encode_problem(problem), b"application/problem+json", tuple(headers))

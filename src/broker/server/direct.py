"""What a connection needs for the second door to ``POST /insert``: a request that has arrived whole is answered without
ASGI.

Most of what a small insert costs over ASGI is ASGI itself: an object with the state of the request, a dictionary for
each message, and the search for the route. What the request does is the same over both doors (``web/direct.py``), and
so is every byte of the response."""

from __future__ import annotations

import asyncio
from typing import ClassVar, NamedTuple

import msgspec
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from broker.web.direct import Prepared
from broker.web.requests import Header, Response

LINE = b"POST /insert HTTP/1.1\r\n"  # with which a head that is remembered begins
KNOWN_MAX = 8  # heads that a connection remembers; many programs and browsers send one, but for the length of the body
TARGET = b"/insert"  # of the requests that are for this door; with a query, or another spelling, ASGI decides
# The client waits for permission to send the body; and Uvicorn replaces the client's address by what a proxy says.
ASGI_HEADERS = frozenset({b"expect", b"x-forwarded-for", b"x-forwarded-proto"})
EVENTS = b"/events"
# With one of these, a request that opens a stream is for ASGI: it may have a body.
BODY_HEADERS = ASGI_HEADERS | {b"content-length", b"transfer-encoding"}
BODY_BYTES_MAX = 64 * 1024  # larger bodies are read by ASGI, which lets the client wait, and counts what has arrived
# How long the rest of a request may take, in seconds: many clients send the head and the body one after the other. Then
# ASGI decides: it may refuse a request whose body never comes.
WAIT_S = 0.02


class Known(NamedTuple):
    """A head that is remembered."""

    prepared: Prepared
    body_bytes: int


class DirectRequest(msgspec.Struct, gc=False):
    """A request and the state of its response. It has the attributes that Uvicorn's protocol reads and sets in the
    ``RequestResponseCycle`` of the current request, because it stands in that one's place."""

    message_event: ClassVar = asyncio.Event()  # nobody waits for it

    scope: Scope
    prepared: Prepared | None
    keep_alive: bool
    body: bytes = b""
    more_body: bool = True
    disconnected: bool = False
    response_started: bool = False
    response_complete: bool = False


def encode(response: Response, default_headers: list[Header], *, keep_alive: bool) -> bytes:
    """Returns the bytes of a response, as Uvicorn would send them."""
    lines = b"".join([b"%b: %b\r\n" % header for header in [*default_headers, *response.all_headers()]])
    closing = b"" if keep_alive else b"connection: close\r\n"
    return b"%b%b%b\r\n%b" % (STATUS_LINE[response.status], lines, closing, response.body)

"""What a connection needs for the second door to ``POST /insert`` and ``GET /events``: a request that has arrived whole
is answered without ASGI.

Most of what a small insert costs over ASGI is ASGI itself: an object with the state of the request, a dictionary for
each message, and the search for the route. What the request does is the same over both doors (``web/direct.py``), and
so is every byte of the response."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import httptools
import msgspec
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from broker.web.direct import Prepared
from broker.web.requests import Header, Response

_KNOWN_MAX = 8  # heads that a connection remembers; most programs and browsers send one, but for the length of the body
# The client waits for permission to send the body; and Uvicorn replaces the client's address by what a proxy says.
_ASGI_HEADERS = frozenset({b"expect", b"x-forwarded-for", b"x-forwarded-proto"})
# With one of these, a request that opens a stream is for ASGI: it may have a body.
_BODY_HEADERS = _ASGI_HEADERS | {b"content-length", b"transfer-encoding"}
BODY_BYTES_MAX = 64 * 1024  # larger bodies are read by ASGI, which lets the client wait, and counts what has arrived
# How long the rest of a request may take, in seconds: many clients send the head and the body one after the other. Then
# ASGI decides: it may refuse a request whose body never comes.
WAIT_S = 0.02


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


def inserts(url: bytes, parser: httptools.HttpRequestParser, headers: list[Header]) -> bool:
    """Returns whether a request with this head may insert without ASGI: unless a proxy says whose it is, or the client
    waits for permission to send the body. If the URL has a query, or another spelling, ASGI decides."""
    return (
        url == b"/insert"
        and parser.get_method() == b"POST"
        and parser.get_http_version() == "1.1"
        and _ASGI_HEADERS.isdisjoint([name for name, _ in headers])
    )


def opens_stream(url: bytes, parser: httptools.HttpRequestParser, headers: list[Header]) -> bool:
    """Does the same for a request that may open a stream without ASGI."""
    return (
        (url == b"/events" or url.startswith(b"/events?"))
        and b"#" not in url
        and parser.get_method() == b"GET"
        and parser.get_http_version() == "1.1"
        and parser.should_keep_alive()
        and _BODY_HEADERS.isdisjoint([name for name, _ in headers])
    )


class KnownHeads:
    """The heads of requests to insert that one connection has sent. A request with the same head, byte for byte, need
    not be parsed.

    The danger: what is known is used in place of the parser. So it must be certain that the parser would find nothing
    but this head, up to the first empty line, and a body of the length that the head says; and that it is between two
    requests, which the connection knows.

    Mutable state: the heads, with what follows from each, and the length of the body."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Prepared, int]] = {}

    def learn(self, data: bytes, request: DirectRequest, headers: list[Header]) -> None:
        """Called when the parser has found this request in ``data``, which began with its first byte."""
        size = data.find(b"\r\n\r\n") + 4
        whole = data.startswith(b"POST /insert HTTP/1.1\r\n") and data[size:] == request.body
        if request.prepared is None or not request.keep_alive or not whole or b"transfer-encoding" in dict(headers):
            return
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[data[:size]] = request.prepared, len(request.body)

    def find(self, data: bytes) -> DirectRequest | None:
        """Returns the request that ``data`` is, from its first byte to its last one, if its head is known."""
        size = data.find(b"\r\n\r\n") + 4
        known = self._known.get(data[:size])
        if known is None or len(data) - size != known[1]:
            return None
        return DirectRequest(known[0].scope, known[0], True, data[size:], more_body=False)

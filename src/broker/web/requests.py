"""What every endpoint needs of HTTP: methods, parameters, headers, bodies and responses."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.types import Receive, Scope, Send

from broker.addresses import canonical, is_loopback
from broker.errors import (
    BadRequest,
    MethodNotAllowed,
    TooLarge,
    Unavailable,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from broker.settings import KIB, Settings

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
NDJSON = b"application/x-ndjson"
NO_STORE: tuple[Header, ...] = ((b"cache-control", b"no-store"),)
# Bodies up to this size are accepted even while too many large bodies are arriving.
_SMALL = 64 * KIB
_PARAMETERS_MAX = 1_000  # parameters in one query
# Unknown parameters in one query. For each of them, the search for a similar name takes up to 0.1 ms.
_UNKNOWN_MAX = 50
# How similar (difflib's ratio) an unknown name must be to a parameter's to count as a misspelling: `evnet`, `last_id`.
_SIMILAR = 0.7
# The labels of UTF-8 (WHATWG Encoding, section 4.2): many clients write utf8.
_UTF_8 = frozenset({"utf-8", "utf8", "unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "x-unicode20utf8"})
_HEADERS_KEY = "broker.headers"  # in the scope
# A JSON Web Token, or an API key
_TOKEN = re.compile(r"(?:eyJ[\w-]+\.[\w-]+\.[\w-]*|bk_[0-9a-f]{40}_[\w-]+)\Z")


class Methods:
    """An ASGI app for one path, with an endpoint for each method.

    HEAD is served by the endpoint of GET (RFC 9110, section 9.1), and the server drops the body. ``head=False`` is for
    a path where a GET changes something."""

    def __init__(self, *, head: bool = True, **endpoints: Endpoint) -> None:
        if head and "GET" in endpoints:
            endpoints["HEAD"] = endpoints["GET"]
        self.endpoints = endpoints
        self.allow = ", ".join(sorted(endpoints))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self.endpoints.get(scope["method"])
        if endpoint is None:
            raise MethodNotAllowed(scope["method"], self.allow)
        await endpoint(scope, receive, send)


def address(scope: Scope) -> str:
    """Returns the client's address. If a trusted proxy passed the request on, it is the address that the proxy
    reports."""
    return canonical(scope["client"][0]) if scope.get("client") else ""


def is_from_here(scope: Scope, *, through_proxy: bool) -> bool:
    """Returns whether the client is on this machine. ``through_proxy``: whether that may also be what a proxy reports,
    such as a development server on this machine.

    To a proxy on this machine every client would seem to be local. So a request that a proxy has passed on counts only
    if all the addresses that it reports are of this machine. ``Via`` reports none; and ``Forwarded``, which hardly any
    proxy sends, is not read, so a request that has it does not count."""
    sent = [header(scope, name) for name in (b"x-forwarded-for", b"x-real-ip")]
    reported = [each.strip() for value in sent if value is not None for each in value.split(",")]
    if header(scope, b"forwarded") is not None or (header(scope, b"via") is not None and not reported):
        return False
    if reported and not through_proxy:
        return False
    return all(map(is_loopback, [address(scope), *reported]))


def header(scope: Scope, name: bytes) -> str | None:
    """Returns a header's value without white space around it. Several lines of one header are joined by commas (RFC
    9110, sections 5.3 and 5.5)."""
    # A dozen headers are looked up for each request, so they are put into a table by the first who looks for one.
    table: dict[bytes, list[bytes]] | None = scope.get(_HEADERS_KEY)
    if table is None:
        table = scope[_HEADERS_KEY] = {}
        for key, line in scope["headers"]:
            table.setdefault(key, []).append(line)
    lines = table.get(name)
    return None if lines is None else b", ".join(lines).strip(b" \t").decode("latin-1")


def event_of(scope: Scope) -> str:
    """Returns the event that the path names. Raises BadRequest."""
    event: str = scope["path_params"]["event"]
    if "\ufffd" in event:  # the server puts this character where the bytes were not UTF-8; it may also have been sent
        try:
            unquote_to_bytes(scope.get("raw_path") or b"").decode()
        except UnicodeDecodeError:
            raise BadRequest("event: the name is not percent-encoded UTF-8") from None
    return event


def is_known(scope: Scope, tag: bytes) -> bool:
    """Whether the client has the version with this ``ETag`` already (RFC 9110, section 13.1.2)."""
    sent = header(scope, b"if-none-match")
    if sent is None:
        return False
    tags = {each.strip().removeprefix("W/") for each in sent.split(",")}
    return "*" in tags or tag.decode() in tags


class Parameters:
    """The query parameters of one endpoint.

    Case, ``-`` and ``_`` in a name do not count: ``last_event_id``, ``lastEventId`` and ``Last-Event-ID`` are the same.
    Unknown parameters are refused. If not ``strict``, they are ignored, unless they look like a known one: misspelt, or
    among the words in ``mistaken`` that other servers use for it."""

    def __init__(self, *names: str, mistaken: Mapping[str, Sequence[str]], strict: bool = True) -> None:
        # The names as they are documented come first, because most requests use them.
        self._names = {name: name for name in names} | {_folded(name): name for name in names}
        self._mistaken = {word: name for name, words in mistaken.items() for word in words}
        self._strict = strict

    def read(self, scope: Scope) -> list[tuple[str, str]]:
        """Returns the known parameters, under the names that were given to ``__init__``, with their values.

        Raises BadRequest for unknown parameters, for a token in the query, for a query that is not UTF-8, and for too
        many parameters."""
        query: bytes = scope["query_string"]
        if query.count(b"&") >= _PARAMETERS_MAX:
            raise BadRequest(f"the query has more than {_PARAMETERS_MAX} parameters")
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
        except (UnicodeDecodeError, ValueError):
            raise BadRequest("the query is not percent-encoded UTF-8") from None
        parameters: list[tuple[str, str]] = []
        unknown = 0
        for sent_name, value in pairs:
            if name := self._names.get(sent_name):
                parameters.append((name, value))
                continue
            folded = _folded(sent_name)
            if (name := self._names.get(folded)) and "[" not in sent_name:
                parameters.append((name, value))
            elif _TOKEN.match(value):
                raise BadRequest(
                    f"{sent_name[:50]}: a token or key is never read from the URL, which logs and histories keep; send "
                    "the header Authorization: Bearer <jwt>"
                )
            elif (unknown := unknown + 1) > _UNKNOWN_MAX:
                raise BadRequest(f"the query has more than {_UNKNOWN_MAX} unknown parameters")
            elif (meant := self._meant(folded)) or self._strict:
                right = meant or ", ".join(dict.fromkeys(self._names.values()))
                raise BadRequest(f"{sent_name[:50]}: there is no such parameter; use {right}")
        return parameters

    def _meant(self, folded: str) -> str | None:
        """Returns the parameter that an unknown name was probably meant to be, or None."""
        similar = get_close_matches(folded, [*self._names, *self._mistaken], 1, _SIMILAR)
        return (self._names | self._mistaken)[similar[0]] if similar else None


def _folded(name: str) -> str:
    """``Last-Event-ID`` → ``lasteventid``; ``topic[]``, as some libraries write lists, → ``topic``."""
    return "".join(filter(str.isalnum, name.partition("[")[0].lower()))


def media_type(scope: Scope, *supported: bytes) -> bytes:
    """Returns the media type of the body. Raises UnsupportedMediaType if it is none of the supported ones, or if its
    charset is not UTF-8."""
    mime, *parameters = (header(scope, b"content-type") or "").lower().split(";")
    media = mime.strip().encode("latin-1")
    if media not in supported:
        types = " or ".join(str(each, "ascii") for each in supported)
        problem = f"Content-Type: {mime.strip()[:100]} is not supported here" if mime else "there is no Content-Type"
        raise UnsupportedMediaType(f"{problem}; send JSON, with the header Content-Type: {types}")
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name.strip() == "charset" and charset.strip(" \t\"'") not in _UTF_8:
            raise UnsupportedMediaType(f"charset={charset.strip()[:50]} is not supported; send the JSON as UTF-8")
    return media


def prefers_minimal(scope: Scope) -> bool:
    """Returns whether the request has ``Prefer: return=minimal`` (RFC 7240)."""
    value = header(scope, b"prefer")
    if value is None:
        return False
    preferences = value.lower().replace('"', "").split(",")
    return any(preference.partition(";")[0].strip() == "return=minimal" for preference in preferences)


class Bodies:
    """Reads the bodies of requests. It limits the size of each body, and the size of all bodies together that are
    arriving.

    Mutable state: how many bytes of incomplete bodies are in memory, of all requests together."""

    def __init__(self, settings: Settings) -> None:
        self._each_max = settings.body_bytes_max
        self._all_max = settings.bodies_bytes_max
        self._arriving = 0

    async def read_json(self, scope: Scope, receive: Receive) -> bytes:
        """Returns the body. Raises UnsupportedMediaType, and what ``read`` raises."""
        media_type(scope, JSON)
        return await self.read(scope, receive)

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """Returns the body, without the byte order mark that some systems put in front (RFC 8259, section 8.1).

        Raises TooLarge before more than the limit is in memory; UnsupportedEncoding; Unavailable if too many large
        bodies are arriving; and Disconnected."""
        self.check_head(scope)
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                part = message.get("body", b"")
                if size + len(part) > self._each_max:
                    raise self._too_large()
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts).removeprefix(BOM_UTF8)
                size += len(part)
                self._arriving += len(part)
                if self._arriving > self._all_max and size > _SMALL:  # large bodies must not keep small ones out
                    raise Unavailable("too many large bodies are arriving at once; send this again in a moment")
        finally:
            self._arriving -= size

    def whole(self, body: bytes) -> bytes:
        """Does the same for a body that is there already, after ``check_head``. Raises TooLarge."""
        if len(body) > self._each_max:
            raise self._too_large()
        return body.removeprefix(BOM_UTF8)

    def check_head(self, scope: Scope) -> None:
        """Raises UnsupportedEncoding, and TooLarge if the head says so."""
        coding = header(scope, b"content-encoding")
        if coding and coding.lower() != "identity":
            raise UnsupportedEncoding(f"Content-Encoding: {coding[:50]} is not supported; send the body uncompressed")
        length = header(scope, b"content-length")
        if length is not None and length.isascii() and length.isdigit() and int(length) > self._each_max:
            raise self._too_large()

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._each_max} bytes (body_bytes_max); send less at a time")


class Disconnected(Exception):
    """The client closed the connection before its request was complete, so nobody is left to respond to."""


class Response(NamedTuple):
    """A whole response. ``headers`` are those beside the type and the length of the body."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[Header, ...] = ()

    def adding(self, headers: tuple[Header, ...]) -> Response:
        return Response(self.status, self.body, self.content_type, self.headers + headers)

    def all_headers(self) -> list[Header]:
        return [(b"content-type", self.content_type), (b"content-length", b"%d" % len(self.body)), *self.headers]

    async def send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.all_headers()})
        await send({"type": "http.response.body", "body": self.body})


async def respond(
    send: Send, status: int, body: bytes, content_type: bytes = JSON, headers: tuple[Header, ...] = ()
) -> None:
    """Sends a whole response."""
    await Response(status, body, content_type, headers).send(send)


def json_response(status: int, json: bytes, headers: tuple[Header, ...] = ()) -> Response:
    """Returns a response of JSON and a line feed. Without the line feed, the prompt of a shell would stand on the same
    line as the JSON."""
    return Response(status, json + b"\n", JSON, headers)


async def respond_json(send: Send, status: int, json: bytes, headers: tuple[Header, ...] = ()) -> None:
    """Sends what ``json_response`` returns."""
    await json_response(status, json, headers).send(send)

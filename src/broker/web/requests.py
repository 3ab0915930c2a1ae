"""What every endpoint needs of HTTP: methods, bodies, headers, answers, the caller."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Mapping, Sequence
from difflib import get_close_matches
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from broker.addresses import canonical
from broker.broker import Broker
from broker.errors import (
    BadRequest,
    MethodNotAllowed,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from broker.settings import KIB, Settings
from broker.users import User

Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
NDJSON = b"application/x-ndjson"
_SMALL = 64 * KIB
_PARAMETERS_MAX = 1_000  # in a query
_UNKNOWN_MAX = 50  # in a query: to look for a name that is like an unknown one takes up to 0.1 ms
_NEAR = 0.7  # how like a parameter's name another one is that is taken for it (difflib's ratio): `evnet`, `last_id`
# The labels of UTF-8 (WHATWG Encoding, section 4.2): many clients write utf8.
_UTF_8 = frozenset({"utf-8", "utf8", "unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "x-unicode20utf8"})
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*\Z")  # a JSON Web Token


class Methods:
    """An ASGI app for one path: which method goes where. HEAD goes where GET goes (RFC 9110, section 9.1), and the
    server leaves the body away; but not where a GET does something."""

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
    """Where the request comes from; behind a trusted proxy, what that says."""
    return canonical(scope["client"][0]) if scope.get("client") else ""


def header(scope: Scope, name: bytes) -> str | None:
    """A field's value without the blanks around it; of several lines, all of them (RFC 9110, sections 5.3 and 5.5)."""
    found: bytes | None = None
    for key, value in scope["headers"]:
        if key == name:
            found = value if found is None else found + b", " + value
    return None if found is None else found.strip(b" \t").decode("latin-1")


class Parameters:
    """The query parameters that one address takes.

    How a name is written does not matter: ``last_event_id``, ``lastEventId`` and ``Last-Event-ID`` are one. Others are
    refused; or, if not ``strict``, ignored, unless they look like a misspelt one: ``mistaken`` has the words of other
    servers for each."""

    def __init__(self, *names: str, mistaken: Mapping[str, Sequence[str]], strict: bool = True) -> None:
        self._names = {_folded(name): name for name in names}
        self._mistaken = {word: name for name, words in mistaken.items() for word in words}
        self._strict = strict

    def read(self, scope: Scope) -> list[tuple[str, str]]:
        """The known ones, by the names that they have here. Raises BadRequest for others, for a token, for what is no
        UTF-8, and for too many."""
        query: bytes = scope["query_string"]
        if query.count(b"&") >= _PARAMETERS_MAX:
            raise BadRequest(f"the query has more than {_PARAMETERS_MAX} parameters")
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict")
        except (UnicodeDecodeError, ValueError):
            raise BadRequest("the query is not percent-encoded UTF-8") from None
        found: list[tuple[str, str]] = []
        unknown = 0
        for given, value in pairs:
            folded = _folded(given)
            if (name := self._names.get(folded)) and "[" not in given:
                found.append((name, value))
            elif _TOKEN.match(value):
                raise BadRequest(
                    f"{given[:50]}: a token is never read from the address, which logs and histories keep; send the "
                    "header Authorization: Bearer <jwt>"
                )
            elif (unknown := unknown + 1) > _UNKNOWN_MAX:
                raise BadRequest(f"the query has more than {_UNKNOWN_MAX} unknown parameters")
            elif (meant := self._meant(folded)) or self._strict:
                right = meant or ", ".join(self._names.values())
                raise BadRequest(f"{given[:50]}: there is no such parameter; use {right}")
        return found

    def _meant(self, folded: str) -> str | None:
        near = get_close_matches(folded, [*self._names, *self._mistaken], 1, _NEAR)
        return (self._names | self._mistaken)[near[0]] if near else None


def _folded(name: str) -> str:
    """``Last-Event-ID`` → ``lasteventid``; ``topic[]``, as some libraries write lists, → ``topic``."""
    return "".join(filter(str.isalnum, name.partition("[")[0].lower()))


def media_type(scope: Scope, *supported: bytes) -> bytes:
    """The body's. Raises UnsupportedMediaType for any other, and for another charset than UTF-8."""
    mime, *parameters = (header(scope, b"content-type") or "").lower().split(";")
    found = mime.strip().encode("latin-1")
    if found not in supported:
        types = " or ".join(str(each, "ascii") for each in supported)
        given = f"Content-Type: {mime.strip()[:100]} is not taken here" if mime else "there is no Content-Type"
        raise UnsupportedMediaType(f"{given}; send JSON, with the header Content-Type: {types}")
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name.strip() == "charset" and charset.strip(" \t\"'") not in _UTF_8:
            raise UnsupportedMediaType(f"charset={charset.strip()[:50]} is not taken; send the JSON as UTF-8")
    return found


def prefers_minimal(scope: Scope) -> bool:
    """Whether ``Prefer: return=minimal`` (RFC 7240) is among the preferences."""
    given = header(scope, b"prefer")
    if given is None:
        return False
    preferences = given.lower().replace('"', "").split(",")
    return any(each.partition(";")[0].strip() == "return=minimal" for each in preferences)


class Bodies:
    """The requests' bodies.

    Mutable state: the bytes of those that are not complete yet, all together."""

    def __init__(self, settings: Settings) -> None:
        self._each_max = settings.body_bytes_max
        self._all_max = settings.bodies_bytes_max
        self._coming = 0

    async def read_json(self, scope: Scope, receive: Receive) -> bytes:
        """The body. Raises UnsupportedMediaType, and what ``read`` raises."""
        media_type(scope, JSON)
        return await self.read(scope, receive)

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The body, without the byte order mark that some systems put in front (RFC 8259, section 8.1). Raises TooLarge
        before more than that is in memory; UnsupportedEncoding; and Unavailable."""
        coding = header(scope, b"content-encoding")
        if coding and coding.lower() != "identity":
            raise UnsupportedEncoding(
                f"Content-Encoding: {coding[:50]} is not taken; send the body as it is, uncompressed"
            )
        length = header(scope, b"content-length")
        if length is not None and length.isascii() and length.isdigit() and int(length) > self._each_max:
            raise self._too_large()
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
                self._coming += len(part)
                if self._coming > self._all_max and size > _SMALL:  # a small one never waits for the large ones
                    raise Unavailable("too many large bodies are coming at once; send this again in a moment")
        finally:
            self._coming -= size

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._each_max} bytes (body_bytes_max); send less at a time")


class Disconnected(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


async def respond(
    send: Send, status: int, body: bytes, content_type: bytes = JSON, headers: tuple[Header, ...] = ()
) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", b"%d" % len(body)),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def caller(scope: Scope, broker: Broker) -> User:
    """The user whose token the request carries. Raises Unauthorized."""
    given = header(scope, b"authorization")
    if given is None:
        raise Unauthorized("this needs a token: log in, then send the header Authorization: Bearer <jwt>")
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("the header Authorization has another form than this needs: Bearer, a blank, and the token")
    return await broker.authenticate(token.strip())

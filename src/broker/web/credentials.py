"""Who makes a request: the token or the API key in its header; or, where an endpoint says so, a cookie or a ticket.

A browser adds a cookie by itself, also to a request that another site has caused. So a cookie counts only where nothing
is changed, and only if the page belongs to this server or to an origin that may read the responses. A ticket stands in
the URL, so it opens streams and nothing else. Whatever changes something needs the header, which no other site can
send."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from starlette.types import Scope

from broker.accounts.accounts import Credential
from broker.accounts.tokens import Use
from broker.broker import Broker
from broker.errors import Unauthorized
from broker.live.reader import ANONYMOUS, Reader
from broker.origins import origins_matcher
from broker.settings import Settings
from broker.users import OPERATOR
from broker.web.requests import Header, header

# What the server puts into the scope of a request that came over the operator's socket (``server/control.py``). Nothing
# that a client sends can become this object.
OPERATOR_MARK = object()
OPERATOR_KEY = "broker.operator"

_matcher = lru_cache(origins_matcher)


def is_operator(scope: Scope) -> bool:
    """Whether the request came over the operator's socket."""
    return scope.get("state", {}).get(OPERATOR_KEY) is OPERATOR_MARK


class InvalidCookie(Unauthorized):
    """The cookie is not valid any more. ``header`` removes it, because the browser would send it again and again."""

    def __init__(self, detail: str, header: Header) -> None:
        super().__init__(detail)
        self.header = header


class Accepted(NamedTuple):
    """What an endpoint accepts besides the header."""

    cookie: bool = False
    ticket: Sequence[str] = ()  # the values of this parameter in the URL, if it counts there


HEADER = Accepted()
COOKIE = Accepted(cookie=True)


class _Sent(NamedTuple):
    use: Use
    token: str


def _sent(scope: Scope, broker: Broker, accepted: Accepted) -> _Sent | None:
    """Returns what the request carries, whether or not it is valid. The header comes before a ticket, and that before a
    cookie, which the browser adds by itself. Raises Unauthorized."""
    if header(scope, b"authorization") is not None:
        return _Sent("", bearer_token(scope))
    if accepted.ticket:
        return _Sent("ticket", accepted.ticket[-1])
    cookie = _cookie(scope) if accepted.cookie else None
    if cookie is not None and _is_of_own_page(scope, broker.settings) and broker.accounts.is_own_cookie(cookie):
        return _Sent("cookie", cookie)
    return None


async def caller(scope: Scope, broker: Broker, accepted: Accepted = HEADER) -> Credential:
    """Returns who makes the request. Raises Unauthorized."""
    if is_operator(scope):
        return Credential(actor=OPERATOR)
    sent = _sent(scope, broker, accepted)
    if sent is None:
        raise Unauthorized("this needs a token: log in, then send the header Authorization: Bearer <jwt>")
    try:
        return await broker.accounts.authenticate(sent.token, sent.use)
    except Unauthorized as refusal:
        if sent.use == "cookie":
            raise InvalidCookie(refusal.detail, cookie_header(scope, "", 0)) from None
        raise


def bearer_token(scope: Scope) -> str:
    """Returns the token that the header carries, whether or not it is valid. Raises Unauthorized if there is none."""
    value = header(scope, b"authorization")
    if value is None:
        raise Unauthorized("this needs a token: log in, then send the header Authorization: Bearer <jwt>")
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("the header Authorization must consist of the word Bearer, a blank, and the token")
    return token.strip()


async def reader(scope: Scope, broker: Broker, accepted: Accepted = HEADER) -> Credential:
    """Returns who makes the request, or a stranger, if it carries nothing and strangers may ask. Then the rules decide
    what they may do. Raises Unauthorized: what is sent must be valid."""
    if _is_open(broker) and not is_operator(scope) and _sent(scope, broker, accepted) is None:
        return Credential()
    return await caller(scope, broker, accepted)


def reader_cached(scope: Scope, broker: Broker, accepted: Accepted = HEADER) -> Reader | None:
    """Does the same without waiting. Returns None if there is something to wait for, or if the request is refused."""
    if is_operator(scope):
        return None
    sent = _sent(scope, broker, accepted)
    if sent is None:
        return ANONYMOUS if _is_open(broker) else None
    known = broker.accounts.authenticate_cached(sent.token, sent.use)
    return None if known is None else Reader(*known)


def _is_open(broker: Broker) -> bool:
    return broker.rights.rules is not None or broker.settings.events_public


async def inserter(scope: Scope, broker: Broker) -> Credential:
    """Does the same for a request that inserts. Without rules, it needs a token."""
    return await (caller if broker.rights.rules is None else reader)(scope, broker)


# The cookie


def _cookie_name(scope: Scope) -> bytes:
    """Browsers accept a cookie with the first prefix only for the whole host, and from nobody but the host itself (RFC
    6265bis, section 4.1.3). If Broker is mounted in another program, other programs may have cookies there, and another
    Broker, too."""
    return b"__Secure-broker" if scope.get("root_path") else b"__Host-broker"


def _cookie(scope: Scope) -> str | None:
    """Returns the value of the cookie. If there are several, that of the most specific path comes first."""
    name = _cookie_name(scope) + b"="
    for key, line in scope["headers"]:
        if key == b"cookie":
            # Cookies are never separated by commas, so that one of a foreign page cannot have another one inside.
            for part in line.split(b";"):
                if (pair := part.strip()).startswith(name):
                    return str(pair[len(name) :].decode("latin-1"))
    return None


def _is_of_own_page(scope: Scope, settings: Settings) -> bool:
    """Whether a page of this server, or one of a listed origin, has made the request."""
    if header(scope, b"sec-fetch-site") == "same-origin":
        return True
    origin = header(scope, b"origin")
    return origin is not None and bool(_matcher(settings.credential_origins)(origin.lower()))


def has_cookie(scope: Scope) -> bool:
    return _cookie(scope) is not None


def cookie_header(scope: Scope, value: str, age_s: int) -> Header:
    """Returns the header that sets the cookie for ``age_s`` seconds; 0 removes it."""
    path = quote(scope.get("root_path") or "/")
    name = _cookie_name(scope).decode()
    text = f"{name}={value}; Path={path}; Max-Age={age_s}; HttpOnly; Secure; SameSite=Strict"
    return b"set-cookie", text.encode()

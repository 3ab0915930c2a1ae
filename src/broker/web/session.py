"""``POST /session``: a cookie, or a ticket for the URL. A plain EventSource sends them in place of the header, which it
cannot send."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json
from broker.accounts.accounts import person_of
from broker.broker import Broker
from broker.errors import BadRequest
from broker.records import seconds
from broker.web.credentials import bearer_token, cookie_header
from broker.web.requests import JSON, NO_STORE, Bodies, header, media_type, respond_json


class SessionBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is wanted."""

    ticket: bool = False


class CookieView(msgspec.Struct):
    """The JSON of a session whose cookie was set. Times are in seconds since 1970."""

    username: str
    expires_at: int
    time: msgspec.Raw


class TicketView(msgspec.Struct):
    """The JSON of a ticket."""

    ticket: str
    username: str
    expires_at: int
    time: msgspec.Raw


_decoder = msgspec.json.Decoder(SessionBody)


class Session:
    """The endpoint. To get something, the header is needed, so no other site can make a browser call it. To remove the
    cookie, nothing is needed: browsers ask beforehand whether another site may send DELETE, and it may not."""

    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._broker = broker
        self._bodies = bodies

    async def open(self, scope: Scope, receive: Receive, send: Send) -> None:
        token, accounts = bearer_token(scope), self._broker.accounts
        credential = await accounts.authenticate(token)  # before the body is read
        person_of(credential)
        body = await self._bodies.read(scope, receive)
        wants = SessionBody()
        if body.strip():
            media_type(scope, JSON)
            wants, _ = raw_json.decode(_decoder, body)
        if not wants.ticket and header(scope, b"sec-fetch-site") == "cross-site":
            raise BadRequest('browsers keep no cookie for a page of another site; ask for a ticket: {"ticket":true}')
        login = accounts.derive(credential, token, "ticket" if wants.ticket else "cookie")
        now, user = seconds(login.now_us), login.user
        if wants.ticket:
            view = msgspec.json.encode(TicketView(login.token, user.username, login.expires_s, now))
            await respond_json(send, 200, view, headers=NO_STORE)
            return
        view = msgspec.json.encode(CookieView(user.username, login.expires_s, now))
        cookie = cookie_header(scope, login.token, login.expires_s - login.now_us // 1_000_000)
        await respond_json(send, 200, view, headers=(*NO_STORE, cookie))

    async def close(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Removes the cookie of a page that has no token any more, which it needs for a logout."""
        await respond_json(send, 200, b"{}", headers=(*NO_STORE, cookie_header(scope, "", 0)))

"""The endpoints of one's own account: sign-up, login, renewal, logout, password, and ``GET /users/me``."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json
from broker.accounts.accounts import Credential, Login, person_of
from broker.broker import Broker
from broker.errors import BadRequest, NotFound, Unauthorized
from broker.records import seconds
from broker.rules.who import ADMIN
from broker.users import Actor, User, encode_user
from broker.web.credentials import bearer_token, caller, cookie_header, has_cookie, is_operator
from broker.web.requests import NO_STORE, Bodies, address, header, respond_json


class UserBody(msgspec.Struct, forbid_unknown_fields=True):
    """A user to create; ``info`` is any JSON."""

    username: str
    password: str
    info: msgspec.Raw = msgspec.Raw(b"null")


class LoginBody(msgspec.Struct, forbid_unknown_fields=True):
    """A user name and its password."""

    username: str
    password: str


class PasswordBody(msgspec.Struct, forbid_unknown_fields=True):
    """A new password: with the old one and a token, or with the user name and a code."""

    password: str
    old: str | None = None
    username: str | None = None
    code: str | None = None


class LoginView(msgspec.Struct):
    """The JSON of a new token. Times are in seconds since 1970."""

    jwt: str
    username: str
    expires_at: int
    time: msgspec.Raw


class SignUpView(msgspec.Struct):
    """The JSON of a new user, with a first token."""

    id: str
    username: str
    info: msgspec.Raw
    jwt: str
    expires_at: int
    time: msgspec.Raw


_user_decoder = msgspec.json.Decoder(UserBody)
_login_decoder = msgspec.json.Decoder(LoginBody)
_password_decoder = msgspec.json.Decoder(PasswordBody)


class Accounts:
    """The endpoints of users and of what they log in with."""

    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._broker = broker
        self._bodies = bodies

    async def sign_up(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, compact = raw_json.decode(_user_decoder, await self._bodies.read_json(scope, receive))
        info = compact(bytes(body.info))
        accounts, invited = self._broker.accounts, await self._is_by_administrator(scope)
        login = await accounts.sign_up(body.username, body.password, info, address(scope), invited=invited)
        user = login.user
        view = SignUpView(
            user.id, user.username, msgspec.Raw(user.info), login.token, login.expires_s, seconds(login.now_us)
        )
        await respond_json(send, 201, msgspec.json.encode(view), headers=NO_STORE)

    async def _is_by_administrator(self, scope: Scope) -> bool:
        """Whether an administrator or the operator creates a user. Other tokens make no difference: a page may send the
        one that it has, and it may be too old."""
        if header(scope, b"authorization") is None and not is_operator(scope):
            return False
        try:
            credential = await caller(scope, self._broker)
        except Unauthorized:
            return False
        return ADMIN in self._broker.access.person(credential.actor).roles

    async def log_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, _ = raw_json.decode(_login_decoder, await self._bodies.read_json(scope, receive))
        login = await self._broker.accounts.log_in(body.username, body.password, address(scope))
        await respond_json(send, 200, _encode_login(login), headers=NO_STORE)

    async def renew(self, scope: Scope, receive: Receive, send: Send) -> None:
        login = await self._broker.accounts.renew(bearer_token(scope))
        await respond_json(send, 200, _encode_login(login), headers=NO_STORE)

    async def log_out(self, scope: Scope, receive: Receive, send: Send) -> None:
        credential = await caller(scope, self._broker)
        person_of(credential)
        await self._broker.accounts.log_out(credential)
        headers = (*NO_STORE, cookie_header(scope, "", 0)) if has_cookie(scope) else NO_STORE
        await respond_json(send, 200, b"{}", headers=headers)

    async def change_password(self, scope: Scope, receive: Receive, send: Send) -> None:
        accounts = self._broker.accounts
        # A token, if one was sent, is judged before the body is read.
        credential = None
        if header(scope, b"authorization") is not None:
            credential = await caller(scope, self._broker)
        body, _ = raw_json.decode(_password_decoder, await self._bodies.read_json(scope, receive))
        if body.code is not None and body.username is not None and body.old is None:
            login = await accounts.reset_password(body.username, body.code, body.password, address(scope))
        elif body.old is not None and body.code is None and body.username is None:
            credential = credential or await caller(scope, self._broker)
            person_of(credential)
            login = await accounts.change_password(credential, body.old, body.password, address(scope))
        else:
            raise BadRequest(
                "password: send the old password as old, with your token; or username and code, if an administrator "
                "has given you a code"
            )
        await respond_json(send, 200, _encode_login(login), headers=NO_STORE)

    async def me(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = own_account(await caller(scope, self._broker))
        roles = self._broker.access.person(Actor(user.id, user.username)).roles
        await respond_json(send, 200, encode_user(user, roles), headers=NO_STORE)


def own_account(credential: Credential) -> User:
    """Returns the user who makes the request. Raises NotFound for the operator, who has no account."""
    if credential.user is None:
        raise NotFound("the operator has no account; log in as a user")
    return credential.user


def _encode_login(login: Login) -> bytes:
    return msgspec.json.encode(LoginView(login.token, login.user.username, login.expires_s, seconds(login.now_us)))

"""``POST /users``, ``POST /login``, ``POST /token`` and ``GET /users/me``."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json
from broker.accounts.accounts import Login
from broker.broker import Broker
from broker.records import seconds
from broker.users import encode_user
from broker.web.requests import NO_STORE, Bodies, address, bearer_token, caller, respond_json


class UserBody(msgspec.Struct, forbid_unknown_fields=True):
    """A user to create; ``info`` is any JSON."""

    username: str
    password: str
    info: msgspec.Raw = msgspec.Raw(b"null")


class LoginBody(msgspec.Struct, forbid_unknown_fields=True):
    """A user name and its password."""

    username: str
    password: str


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


class Accounts:
    """The endpoints of users and of what they log in with."""

    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._broker = broker
        self._bodies = bodies

    async def sign_up(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, compact = raw_json.decode(_user_decoder, await self._bodies.read_json(scope, receive))
        info = compact(bytes(body.info))
        login = await self._broker.accounts.sign_up(body.username, body.password, info, address(scope))
        user = login.user
        view = SignUpView(
            user.id, user.username, msgspec.Raw(user.info), login.token, login.expires_s, seconds(login.now_us)
        )
        await respond_json(send, 201, msgspec.json.encode(view), headers=NO_STORE)

    async def log_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, _ = raw_json.decode(_login_decoder, await self._bodies.read_json(scope, receive))
        login = await self._broker.accounts.log_in(body.username, body.password, address(scope))
        await respond_json(send, 200, _encode_login(login), headers=NO_STORE)

    async def renew(self, scope: Scope, receive: Receive, send: Send) -> None:
        login = await self._broker.accounts.renew(bearer_token(scope))
        await respond_json(send, 200, _encode_login(login), headers=NO_STORE)

    async def me(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond_json(send, 200, encode_user(await caller(scope, self._broker)), headers=NO_STORE)


def _encode_login(login: Login) -> bytes:
    return msgspec.json.encode(LoginView(login.token, login.user.username, login.expires_s, seconds(login.now_us)))

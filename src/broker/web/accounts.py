"""``POST /users``, ``POST /login``, ``GET /users/me``."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json
from broker.broker import Broker
from broker.users import encode_user
from broker.web.requests import Bodies, address, caller, respond

NO_STORE = ((b"cache-control", b"no-store"),)


class UserBody(msgspec.Struct, forbid_unknown_fields=True):
    """A user to create; ``info`` is any JSON."""

    username: str
    password: str
    info: msgspec.Raw = msgspec.Raw(b"null")


class LoginBody(msgspec.Struct, forbid_unknown_fields=True):
    """A user name and its password."""

    username: str
    password: str


_user_decoder = msgspec.json.Decoder(UserBody)
_login_decoder = msgspec.json.Decoder(LoginBody)


class Users:
    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._broker = broker
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, compact = raw_json.decode(_user_decoder, await self._bodies.read_json(scope, receive))
        user = await self._broker.sign_up(body.username, body.password, compact(bytes(body.info)), address(scope))
        await respond(send, 201, encode_user(user))


class Login:
    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._broker = broker
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, _ = raw_json.decode(_login_decoder, await self._bodies.read_json(scope, receive))
        token = await self._broker.log_in(body.username, body.password, address(scope))
        await respond(send, 200, msgspec.json.encode({"jwt": token}), headers=NO_STORE)


class Me:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, encode_user(await caller(scope, self._broker)), headers=NO_STORE)

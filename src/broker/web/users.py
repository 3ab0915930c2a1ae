"""The endpoints for administrators: the accounts of others."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json
from broker.accounts.accounts import person_of
from broker.broker import Broker
from broker.errors import BadRequest
from broker.records import seconds
from broker.users import Actor, User, is_username
from broker.web.credentials import caller
from broker.web.pages import next_page, parse_limit
from broker.web.requests import NO_STORE, Bodies, Header, Parameters, respond_json

_PARAMETERS = Parameters(
    "name", "limit", "after",
    mistaken={
        "name": ("username", "user", "search", "q"),
        "limit": ("count", "size", "pagesize", "perpage", "top"),
        "after": ("cursor", "offset", "page", "since", "skip", "start"),
    },
)  # fmt: skip
_LIMIT = 100


class RolesBody(msgspec.Struct, forbid_unknown_fields=True):
    """The roles that a user has from now on."""

    roles: list[str]


class SessionView(msgspec.Struct):
    """The JSON of a login that may still be valid. Times are in seconds since 1970."""

    id: str
    login_at: int
    expires_at: int


class AccountView(msgspec.Struct):
    """The JSON of a user, as administrators see it. ``program``: whether it is a program, which has API keys."""

    id: str
    username: str
    info: msgspec.Raw
    roles: list[str]
    disabled: bool
    program: bool
    sessions: list[SessionView]


class CodeView(msgspec.Struct):
    """A code to set a new password with, and until when it is valid, in seconds since 1970."""

    code: str
    expires_at: msgspec.Raw


class AdminBody(msgspec.Struct, forbid_unknown_fields=True):
    """The code that `broker serve` prints in a terminal while there is no administrator."""

    code: str


_roles_decoder = msgspec.json.Decoder(RolesBody)
_admin_decoder = msgspec.json.Decoder(AdminBody)


class Users:
    """The endpoints."""

    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._administration = broker.administration
        self._broker = broker
        self._bodies = bodies

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        actor = await self._actor(scope)
        values: dict[str, str] = {}
        for name, value in _PARAMETERS.read(scope):
            if name in values:
                raise BadRequest(f"{name}: it was given more than once; give it once")
            values[name] = value
        headers: list[Header] = [*NO_STORE]
        if "name" in values:
            users = [await self._administration.user(values["name"], actor)]
        else:
            limit = parse_limit(values["limit"]) if "limit" in values else _LIMIT
            after = values.get("after", "")
            if after and not is_username(after):
                raise BadRequest("after: expected the user name that the page follows")
            users = await self._administration.users(after, limit + 1, actor)
            if len(users) > limit:
                users = users[:limit]
                headers.append(next_page([("limit", limit), ("after", users[-1].username)]))
        await respond_json(send, 200, b"[%b]" % b",".join(map(self._encode, users)), tuple(headers))

    async def become_first(self, scope: Scope, receive: Receive, send: Send) -> None:
        credential = await caller(scope, self._broker)
        person_of(credential)
        body, _ = raw_json.decode(_admin_decoder, await self._bodies.read_json(scope, receive))
        await self._respond(send, await self._administration.become_first(body.code, credential.actor))

    async def set_roles(self, scope: Scope, receive: Receive, send: Send) -> None:
        actor = await self._actor(scope)
        body, _ = raw_json.decode(_roles_decoder, await self._bodies.read_json(scope, receive))
        await self._respond(send, await self._administration.set_roles(_id(scope), body.roles, actor))

    async def disable(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._respond(send, await self._administration.disable(_id(scope), await self._actor(scope)))

    async def enable(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._respond(send, await self._administration.enable(_id(scope), await self._actor(scope)))

    async def erase(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._respond(send, await self._administration.erase(_id(scope), await self._actor(scope)))

    async def reset(self, scope: Scope, receive: Receive, send: Send) -> None:
        code = await self._administration.reset(_id(scope), await self._actor(scope))
        view = CodeView(code.code, seconds(code.until_us))
        await respond_json(send, 200, msgspec.json.encode(view), headers=NO_STORE)

    async def _actor(self, scope: Scope) -> Actor:
        """Returns who asks. Raises Forbidden, before anything else of the request is looked at, if it is no
        administrator."""
        actor = (await caller(scope, self._broker)).actor
        self._administration.demand(actor)
        return actor

    async def _respond(self, send: Send, user: User) -> None:
        await respond_json(send, 200, self._encode(user), headers=NO_STORE)

    def _encode(self, user: User) -> bytes:
        state, now_s = user.state, self._broker.clock() // 1_000_000
        sessions = [SessionView(each.id, each.login_s, each.until_s) for each in user.sessions if each.until_s > now_s]
        info = msgspec.Raw(user.info)
        view = AccountView(user.id, user.username, info, [*state.roles], state.disabled, user.is_key, sessions)
        return msgspec.json.encode(view)


def _id(scope: Scope) -> str:
    user_id: str = scope["path_params"]["id"]
    return user_id

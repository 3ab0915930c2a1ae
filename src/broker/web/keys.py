"""The endpoints for administrators: API keys, with which programs make requests."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json
from broker.accounts.keys import DAY_S
from broker.broker import Broker
from broker.records import read_time
from broker.users import Actor, Key, User
from broker.web.credentials import caller
from broker.web.requests import NO_STORE, Bodies, respond_json


class KeyBody(msgspec.Struct, forbid_unknown_fields=True):
    """A key to make, for the program with this name."""

    name: str
    roles: list[str] | None = None
    expires_at: msgspec.Raw = msgspec.Raw(b"null")


class KeyView(msgspec.Struct):
    """The JSON of a key. Times are in seconds since 1970. ``used_on`` is the day on which it was used last, in UTC,
    such as 2026-11-29; null: never."""

    id: str
    name: str
    roles: list[str]
    disabled: bool
    created_at: int
    expires_at: int | None
    used_on: str | None


class NewKeyView(KeyView):
    """The same of a key that was just made, with the key itself, which is never shown again."""

    key: str


_decoder = msgspec.json.Decoder(KeyBody)


class Keys:
    """The endpoints."""

    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._broker = broker
        self._administration = broker.administration
        self._bodies = bodies

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        keys = await self._administration.keys(await self._actor(scope))
        await respond_json(send, 200, msgspec.json.encode([_view(user, key) for user, key in keys]), NO_STORE)

    async def add(self, scope: Scope, receive: Receive, send: Send) -> None:
        actor = await self._actor(scope)
        body, compact = raw_json.decode(_decoder, await self._bodies.read_json(scope, receive))
        sent, until_s = compact(bytes(body.expires_at)).decode(), None
        if sent != "null":
            until_s = read_time(sent, "expires_at")[1] // 1_000_000
        user, made = await self._administration.add_key(body.name, body.roles, until_s, actor)
        view = NewKeyView(**msgspec.structs.asdict(_view(user, made.key)), key=made.text)
        await respond_json(send, 201, msgspec.json.encode(view), NO_STORE)

    async def revoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        actor = await self._actor(scope)
        await self._administration.revoke_key(scope["path_params"]["id"], actor)
        await respond_json(send, 200, b"{}", NO_STORE)

    async def _actor(self, scope: Scope) -> Actor:
        """Returns who asks. Raises Forbidden, before anything else of the request is looked at, if it is no
        administrator."""
        actor = (await caller(scope, self._broker)).actor
        self._administration.demand(actor)
        return actor


def _view(user: User, key: Key) -> KeyView:
    used_on = None if key.used_day is None else datetime.fromtimestamp(key.used_day * DAY_S, UTC).strftime("%Y-%m-%d")
    state = user.state
    return KeyView(key.id, user.username, [*state.roles], state.disabled, key.created_s, key.until_s, used_on)

"""``GET /rights``: what the caller may do with an event; and ``POST /rules/check``: the same for anybody."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json
from broker.broker import Broker
from broker.errors import BadRequest
from broker.rules.rules import OPERATIONS, Right
from broker.users import STRANGER_ACTOR, Actor, check_username
from broker.web.credentials import caller, reader
from broker.web.requests import NO_STORE, Bodies, Header, Parameters, respond_json

_PARAMETERS = Parameters("event", mistaken={"event": ("events", "name", "topic", "channel")})
_HEADERS: tuple[Header, ...] = (*NO_STORE, (b"vary", b"Authorization, Cookie"))


class CheckBody(msgspec.Struct, forbid_unknown_fields=True):
    """A question about the rules. ``who`` is a user name, or "public" for a stranger."""

    who: str
    operation: str
    event: str


class CheckView(msgspec.Struct):
    """The answer, and the rule that decides; null if no rule covers the event. A user who is disabled may do nothing,
    whatever the rule says."""

    allowed: Right
    rule: str | None
    line: int | None
    disabled: bool = False


_check_decoder = msgspec.json.Decoder(CheckBody)


class Rights:
    """The endpoints."""

    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._broker = broker
        self._bodies = bodies

    async def mine(self, scope: Scope, receive: Receive, send: Send) -> None:
        actor = (await reader(scope, self._broker)).actor
        names = [value for _, value in _PARAMETERS.read(scope)]
        if len(names) != 1:
            raise BadRequest("event: give one name, as in /rights?event=orders/1")
        await respond_json(send, 200, msgspec.json.encode(self._broker.may(names[0], actor)), headers=_HEADERS)

    async def check(self, scope: Scope, receive: Receive, send: Send) -> None:
        broker = self._broker
        actor = (await caller(scope, broker)).actor
        broker.administration.demand(actor)
        body, _ = raw_json.decode(_check_decoder, await self._bodies.read_json(scope, receive))
        operation = next((each for each in OPERATIONS if each == body.operation), None)
        if operation is None:
            raise BadRequest(f"operation: expected one of {', '.join(OPERATIONS)}")
        who, disabled = STRANGER_ACTOR, False
        if body.who != "public":
            user = await broker.administration.user(check_username(body.who), actor)
            who, disabled = Actor(user.id, user.username), user.state.disabled
        allowed = not disabled and broker.may(body.event, who)[operation]
        match = None if broker.rights.rules is None else broker.rights.rules.find(body.event)
        rule, line = (None, None) if match is None else (str(match.rule.pattern), match.rule.line)
        await respond_json(send, 200, msgspec.json.encode(CheckView(allowed, rule, line, disabled)), _HEADERS)

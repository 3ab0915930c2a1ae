"""``GET /rights``: what the caller may do with an event; and ``POST /rules/check``: the same for anybody."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json
from broker.broker import Broker
from broker.errors import BadRequest
from broker.names import check_name
from broker.rules.rules import OPERATIONS, Operation
from broker.rules.who import Person
from broker.users import check_username
from broker.web.requests import NO_STORE, Bodies, Header, Parameters, caller, reader, respond_json

_PARAMETERS = Parameters("event", mistaken={"event": ("events", "name", "topic", "channel")})
_HEADERS: tuple[Header, ...] = (*NO_STORE, (b"vary", b"Authorization, Cookie"))


class CheckBody(msgspec.Struct, forbid_unknown_fields=True):
    """A question about the rules. ``who`` is a user name, or "public" for a stranger."""

    who: str
    operation: str
    event: str


class CheckView(msgspec.Struct):
    """The answer, and the rule that decides; null if no rule covers the event."""

    allowed: bool
    rule: str | None
    line: int | None


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
        check_name(body.event)
        person = Person(None)
        if body.who != "public":
            user = await broker.administration.user(check_username(body.who), actor)
            person = Person(user.username, frozenset(user.state.roles))
        await respond_json(send, 200, msgspec.json.encode(self._answer(operation, body.event, person)), _HEADERS)

    def _answer(self, operation: Operation, event: str, person: Person) -> CheckView:
        self._broker.rights.check()
        rules = self._broker.rights.rules
        if rules is None:
            return CheckView(True, None, None)
        match = rules.find(event)
        allowed = rules.allows(operation, event, person, self._broker.access.exists)
        if match is None:
            return CheckView(allowed, None, None)
        return CheckView(allowed, str(match.rule.pattern), match.rule.line)

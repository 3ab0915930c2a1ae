"""``/cancel/{uuid}``, by GET or POST."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.errors import BadRequest
from broker.records import Record, encode_record, parse_uuid
from broker.users import Actor
from broker.web.credentials import caller
from broker.web.requests import NO_STORE, respond_json


def encode_cancelled(record: Record, actor: Actor, broker: Broker) -> bytes:
    """Returns the JSON of a record that the actor has cancelled. The right to cancel is no right to read. So its data,
    and who has inserted it, are shown only to whom ``GET /pending`` shows it: to the user who has inserted it, and to
    whoever may read the event's log. (A stranger cancels nothing, and the operator may read every log.)"""
    shown = record.user == actor.username or broker.access.allows("log", record.event, actor)
    return encode_record(record, data=shown, user=shown)


class Cancel:
    """A GET that changes something is safe here, because it needs the token in a header, which following a link never
    sends."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        actor = (await caller(scope, self._broker)).actor
        uuid: str = scope["path_params"].get("uuid", "")
        if not uuid:
            raise BadRequest("uuid: say which record to cancel: /cancel/{uuid}")
        record = await self._broker.cancel(parse_uuid(uuid), actor)
        await respond_json(send, 200, encode_cancelled(record, actor, self._broker), headers=NO_STORE)

"""``/cancel/{uuid}``, by GET or POST."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from broker.broker import Broker
from broker.errors import BadRequest
from broker.records import encode_record, parse_uuid
from broker.web.requests import NO_STORE, caller, respond_json


class Cancel:
    """A GET that changes something is safe here, because it needs the token in a header, which following a link never
    sends."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def cancel(self, scope: Scope, receive: Receive, send: Send) -> None:
        credential = await caller(scope, self._broker)
        uuid: str = scope["path_params"].get("uuid", "")
        if not uuid:
            raise BadRequest("uuid: say which record to cancel: /cancel/{uuid}")
        record = await self._broker.cancel(parse_uuid(uuid), credential.actor)
        await respond_json(send, 200, encode_record(record), headers=NO_STORE)

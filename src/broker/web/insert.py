"""``POST /insert`` and ``/cancel/{uuid}``."""

from __future__ import annotations

import msgspec
from starlette.types import Receive, Scope, Send

from broker import payload
from broker.broker import Broker
from broker.errors import BadRequest
from broker.records import NewRecord, encode_receipt, encode_record, make_uuid, parse_timestamp, parse_uuid
from broker.web.http import caller, header, read_json, respond


class InsertBody(msgspec.Struct, forbid_unknown_fields=True):
    """A record to append."""

    event: str
    data: msgspec.Raw
    timestamp: msgspec.Raw = msgspec.Raw()
    published: bool = False
    uuid: str | None = None


_decoder = msgspec.json.Decoder(InsertBody)


class Insert:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        broker = self._broker
        user = await caller(scope, broker)
        body, compact = payload.decode(_decoder, await read_json(scope, receive, broker.settings.body_bytes_max))
        timestamp = bytes(body.timestamp).decode() or None
        new = NewRecord(
            uuid=make_uuid(broker.clock() // 1_000) if body.uuid is None else parse_uuid(body.uuid),
            event=body.event,
            data=compact(bytes(body.data)),
            user=user.username,
            timestamp=timestamp,
            due_us=None if timestamp is None else parse_timestamp(timestamp),
            log_only=body.published,
            uuid_given=body.uuid is not None,
        )
        ((record, created),) = await broker.insert([new])
        minimal = "return=minimal" in (header(scope, b"prefer") or "")
        encode = encode_receipt if minimal else encode_record
        await respond(send, 201 if created else 200, encode(record, broker.relay.epoch))


class Cancel:
    """By header only: a cancel must not be made by following a link."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = await caller(scope, self._broker)
        uuid: str = scope["path_params"].get("uuid", "")
        if not uuid:
            raise BadRequest("uuid: say which record to cancel: /cancel/{uuid}")
        record = await self._broker.cancel(parse_uuid(uuid), user)
        body = encode_record(record, self._broker.relay.epoch)
        await respond(send, 200, body, headers=((b"cache-control", b"no-store"),))

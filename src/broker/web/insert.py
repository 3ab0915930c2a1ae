"""``POST /insert`` and ``/cancel/{uuid}``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json
from broker.broker import Broker
from broker.errors import BadRequest, BrokerError, TooLarge
from broker.names import check_name
from broker.records import NewRecord, Record, encode_receipt, encode_record, make_uuid, parse_timestamp, parse_uuid
from broker.web.requests import JSON, NDJSON, Bodies, caller, media_type, prefers_minimal, respond


class InsertBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A record to append."""

    event: str
    data: msgspec.Raw
    # null is the same as left out: the models of many languages send every field that they have.
    timestamp: msgspec.Raw = msgspec.Raw()
    published: bool | None = False
    uuid: str | None = None


_decoder = msgspec.json.Decoder(InsertBody)
_array_decoder = msgspec.json.Decoder(list[InsertBody])


def _new_record(username: str, now_ms: int, body: InsertBody, compact: raw_json.Compact) -> NewRecord:
    """Raises BadRequest."""
    sent = bytes(body.timestamp).decode()
    timestamp = sent if sent not in ("", "null") else None
    return NewRecord(
        uuid=make_uuid(now_ms) if body.uuid is None else parse_uuid(body.uuid),
        event=body.event,
        data=compact(bytes(body.data)),
        user=username,
        timestamp=timestamp,
        due_us=None if timestamp is None else parse_timestamp(timestamp),
        log_only=bool(body.published),
        uuid_given=body.uuid is not None,
    )


_Make = Callable[[InsertBody, raw_json.Compact], NewRecord]


class Insert:
    """One record, or a batch of them: all or none."""

    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._broker = broker
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        broker = self._broker
        user = await caller(scope, broker)
        media = media_type(scope, JSON, NDJSON)
        body = await self._bodies.read(scope, receive)
        make = partial(_new_record, user.username, broker.clock() // 1_000)
        encode = encode_receipt if prefers_minimal(scope) else encode_record
        if media == JSON and body.lstrip()[:1] != b"[":
            record, created = await self._insert_one(make(*raw_json.decode(_decoder, body)))
            await respond(send, 201 if created else 200, encode(record))
            return
        results = await broker.insert(self._read_batch(media, body, make))
        answer = b"[%b]" % b",".join([encode(record) for record, _ in results])
        await respond(send, 201 if any(created for _, created in results) else 200, answer)

    async def _insert_one(self, new: NewRecord) -> tuple[Record, bool]:
        try:
            (result,) = await self._broker.insert([new])
        except BrokerError as error:
            error.index = None  # there is only one: nothing to tell apart
            raise
        return result

    def _read_batch(self, media: bytes, body: bytes, make: _Make) -> list[NewRecord]:
        """Raises BadRequest with the index of the first bad record, where there is one; and TooLarge."""
        lines = raw_json.split_lines(body) if media == NDJSON else None
        decoded = (
            raw_json.decode_array(_array_decoder, body) if lines is None else raw_json.decode_lines(_decoder, lines)
        )
        if decoded is not None:
            bodies, compact = decoded
            self._check_count(bodies)
            with contextlib.suppress(BadRequest):  # said below, with the index
                return [make(each, compact) for each in bodies]
        if lines is None:
            return self._make_each(raw_json.split(body), make, "the record")
        return self._make_each(lines, make, "the line")

    def _make_each(self, parts: list[bytes], make: _Make, what: str) -> list[NewRecord]:
        """Each is taken, or refused, just as if it had been sent by itself."""
        self._check_count(parts)
        news: list[NewRecord] = []
        try:
            for part in parts:
                new = make(*raw_json.decode(_decoder, part, what))
                check_name(new.event)  # here, so that of two bad ones the first is named
                news.append(new)
        except BadRequest as error:
            error.index = len(news)
            raise
        return news

    def _check_count(self, batch: Sequence[object]) -> None:
        if not batch:
            raise BadRequest("the batch is empty; send one record or more")
        most = self._broker.settings.batch_records_max
        if len(batch) > most:
            raise TooLarge(f"a batch of {len(batch)} records; at most {most} (batch_records_max): split it")


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
        body = encode_record(record)
        await respond(send, 200, body, headers=((b"cache-control", b"no-store"),))

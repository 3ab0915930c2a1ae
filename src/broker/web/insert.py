"""``POST /insert``: one record, or a batch of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json
from broker.broker import Broker
from broker.errors import BadRequest, BrokerError, PreconditionFailed, TooLarge
from broker.names import check_name
from broker.records import (
    REMOVAL,
    Cancel,
    EventId,
    IfLatest,
    NewRecord,
    Record,
    encode_receipt,
    encode_record,
    make_uuid,
    parse_uuid,
    read_time,
)
from broker.store.base import Result
from broker.users import STRANGER_ACTOR, Actor
from broker.web.cancel import encode_cancelled
from broker.web.credentials import inserter
from broker.web.requests import JSON, NDJSON, Bodies, Response, address, json_response, media_type, prefers_minimal


class InsertBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A record to append."""

    event: str
    data: msgspec.Raw
    # null means the same as a missing field: the data classes of many languages send every field that they have.
    timestamp: msgspec.Raw = msgspec.Raw()
    published: bool | None = False
    uuid: str | None = None
    until: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    if_latest: str | None = None
    late: str | None = None  # a str, because the message about another word should name the two words


class CancelBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An item of a batch that cancels a pending record."""

    cancel: str


_decoder = msgspec.json.Decoder(InsertBody)
_cancel_decoder = msgspec.json.Decoder(CancelBody)
_array_decoder = msgspec.json.Decoder(list[InsertBody])


def _new_record(username: str, now_ms: int, body: InsertBody, compact: raw_json.Compact) -> NewRecord:
    """Returns the record that the client asks to append. Raises BadRequest."""
    sent = bytes(body.timestamp)
    timestamp, due_us = read_time(compact(sent).decode()) if sent not in (b"", b"null") else (None, None)
    new = NewRecord(
        uuid=make_uuid(now_ms) if body.uuid is None else parse_uuid(body.uuid), event=body.event,
        data=compact(bytes(body.data)), user=username, timestamp=timestamp, due_us=due_us,
        log_only=bool(body.published), uuid_given=body.uuid is not None,
    )  # fmt: skip
    if body.until is msgspec.UNSET and body.if_latest is None and body.late is None:
        return new
    return _with_conditions(new, body, compact)


def _with_conditions(new: NewRecord, body: InsertBody, compact: raw_json.Compact) -> NewRecord:
    """Adds the fields that few inserts have. Raises BadRequest if they are not valid, or contradict each other."""
    if body.late not in (None, "publish", "refuse"):
        raise BadRequest("late: expected refuse or publish")
    sent = b"" if body.until is msgspec.UNSET else bytes(body.until)
    until, until_us = read_time(compact(sent).decode(), "until") if sent not in (b"", b"null") else (None, None)
    if until_us is not None:
        if new.log_only:
            raise BadRequest("until: a log-only record (published) is never the latest, so it has no end; leave it out")
        if new.data == REMOVAL:
            raise BadRequest("until: null removes the event at once, so there is nothing to end; leave it out")
        if new.due_us is not None and until_us <= new.due_us:
            raise BadRequest("until: the end must be later than the timestamp")
    if_latest = None if body.if_latest is None else _if_latest(body.if_latest)
    if if_latest is not None and new.log_only:
        raise BadRequest("if_latest: a log-only record (published) never becomes the latest; leave it out")
    return msgspec.structs.replace(
        new, until=until, until_us=until_us, if_latest=if_latest, late_refused=body.late == "refuse",
    )  # fmt: skip


def _if_latest(text: str) -> IfLatest:
    if text == "none":
        return "none"
    try:
        return EventId.parse(text) or parse_uuid(text)
    except BadRequest:
        raise BadRequest(
            'if_latest: expected the id or the uuid of the version that must be the latest, or "none" for an event '
            "that must have no state"
        ) from None


_Make = Callable[[InsertBody, raw_json.Compact], NewRecord]


class Head(NamedTuple):
    """What the head of a request says about its insert."""

    media: bytes  # the media type of the body
    minimal: bool  # whether the client wants the short response
    address: str  # the client's


class Work(msgspec.Struct, frozen=True, gc=False):
    """What a request asks for, and what decides how it is answered."""

    head: Head
    actor: Actor
    items: Sequence[NewRecord | Cancel]
    batch: bool


class Insert:
    """The endpoint. A batch is stored whole or not at all."""

    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._broker = broker
        self._bodies = bodies

    async def insert(self, scope: Scope, receive: Receive, send: Send) -> None:
        actor = (await inserter(scope, self._broker)).actor
        head = self.read_head(scope)
        body = await self._bodies.read(scope, receive)
        await (await self._carry_out(head, actor, body)).send(send)

    async def insert_whole(self, scope: Scope, body: bytes) -> Response:
        """Does the same without ASGI, for a request whose body is there already. ``scope`` is its head."""
        actor = (await inserter(scope, self._broker)).actor
        head = self.read_head(scope)
        return await self._carry_out(head, actor, self._bodies.whole(body))

    def begin(self, head: Head, actor: Actor, body: bytes) -> tuple[Work, asyncio.Future[list[Result]]]:
        """Begins the same without waiting, as long as no rates are counted. What it returns is for ``end`` when the
        future is done. Raises what ``insert`` raises."""
        work = self._read(head, actor, self._bodies.whole(body))
        future = self._broker.insert_at_once(work.items, actor, head.address)
        return work, future

    def end(self, work: Work, future: asyncio.Future[list[Result]]) -> Response:
        try:
            results = future.result()
        except BrokerError as error:
            self._explain(error, work)
            raise
        return self._respond(work, results)

    def read_head(self, scope: Scope) -> Head:
        """Raises UnsupportedMediaType, UnsupportedEncoding and TooLarge."""
        head = Head(media_type(scope, JSON, NDJSON), prefers_minimal(scope), address(scope))
        self._bodies.check_head(scope)
        return head

    async def _carry_out(self, head: Head, actor: Actor, body: bytes) -> Response:
        work = self._read(head, actor, body)
        try:
            results = await self._broker.insert(work.items, actor, head.address)
        except BrokerError as error:
            self._explain(error, work)
            raise
        return self._respond(work, results)

    def _read(self, head: Head, actor: Actor, body: bytes) -> Work:
        """Raises BadRequest and TooLarge."""
        now_ms = self._broker.clock() // 1_000
        if head.media != JSON or (body[:1] != b"{" and body.lstrip()[:1] == b"["):
            make = partial(_new_record, actor.username, now_ms)
            return Work(head, actor, self._read_batch(head.media, body, make, actor.username), batch=True)
        try:
            decoded, compact = raw_json.decode(_decoder, body)
        except BadRequest:
            if body[:64].lstrip(b" \t\r\n{").startswith(b'"cancel"'):
                raise BadRequest("cancel: it is an item of a batch: send an array, or POST /cancel/{uuid}") from None
            raise
        return Work(head, actor, [_new_record(actor.username, now_ms, decoded, compact)], batch=False)

    def _respond(self, work: Work, results: Sequence[Result]) -> Response:
        minimal = work.head.minimal
        encode = encode_receipt if minimal else encode_record
        if not work.batch:
            ((record, created),) = results
            return json_response(201 if created else 200, encode(record))
        actor = work.actor
        # Only a record that the batch cancels may be another user's.
        shown = [
            encode(record)
            if minimal or record.user == actor.username
            else encode_cancelled(record, actor, self._broker)
            for record, _ in results
        ]
        array = b"[%b]" % b",".join(shown)
        return json_response(201 if any(created for _, created in results) else 200, array)

    def _explain(self, error: BrokerError, work: Work) -> None:
        """Adds to an error what the client needs, and removes what would mean nothing to it."""
        if not work.batch:
            error.index = None
            error.members.pop("allowed", None)
        if isinstance(error, PreconditionFailed):
            minimal = work.head.minimal
            latest = b"null" if error.latest is None else self._latest(error.latest, work.actor, minimal=minimal)
            error.members["latest"] = latest

    def _latest(self, record: Record, actor: Actor, *, minimal: bool) -> bytes:
        """Returns the JSON of the latest record, which the actor may read. A stranger sees who has inserted it only if
        the event's rule says so."""
        if minimal:
            return encode_receipt(record)
        authors = self._broker.access.shows_author()
        shown = actor != STRANGER_ACTOR or (authors is not None and authors(record.event))
        return encode_record(record, user=shown)

    def _read_batch(self, media: bytes, body: bytes, make: _Make, username: str) -> Sequence[NewRecord | Cancel]:
        """Returns the items of a batch. Raises TooLarge, and BadRequest, with the index of the first bad record if a
        record is at fault.

        The batch is decoded at once, which is three times as fast as record by record. If anything is wrong with it,
        each record is decoded by itself, which finds out which record is at fault, and why."""
        lines = raw_json.split_lines(body) if media == NDJSON else None
        decoded = (
            raw_json.decode_array(_array_decoder, body) if lines is None else raw_json.decode_lines(_decoder, lines)
        )
        if decoded is not None:
            bodies, compact = decoded
            self._check_count(bodies)
            with contextlib.suppress(BadRequest):  # raised again below, with the index
                return [make(insert_body, compact) for insert_body in bodies]
        parts, what = (raw_json.split(body), "the record") if lines is None else (lines, "the line")
        return self._make_each(parts, make, what, username)

    def _make_each(self, parts: list[bytes], make: _Make, what: str, username: str) -> list[NewRecord | Cancel]:
        """Decodes each record by itself. It is accepted or refused exactly as if it had been sent alone. ``what`` is
        what a refusal calls the record."""
        self._check_count(parts)
        records: list[NewRecord | Cancel] = []
        try:
            for part in parts:
                if b'"cancel"' in part:
                    # What is not a cancellation is read as a record below.
                    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
                        records.append(Cancel(parse_uuid(_cancel_decoder.decode(part).cancel, "cancel"), username))
                        continue
                new = make(*raw_json.decode(_decoder, part, what))
                # Broker.insert checks the names again. They are checked here, too, so that the first of two bad records
                # is reported.
                check_name(new.event)
                records.append(new)
        except BadRequest as error:
            error.index = len(records)
            raise
        return records

    def _check_count(self, batch: Sequence[object]) -> None:
        if not batch:
            raise BadRequest("the batch is empty; send one record or more")
        most = self._broker.settings.batch_records_max
        if len(batch) > most:
            raise TooLarge(f"a batch of {len(batch)} records; at most {most} (batch_records_max): split it")

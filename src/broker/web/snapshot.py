"""``GET /snapshot``: the latest record of every event, whole or in pages."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice

import msgspec
from starlette.types import Receive, Scope, Send

from broker.addresses import client_key
from broker.broker import Broker
from broker.errors import BadRequest, Unavailable
from broker.live.frames import Frame
from broker.live.listing import Selection
from broker.names import Filter
from broker.records import EventId, encode_record
from broker.settings import KIB
from broker.web.pages import array_type, next_page, parse_limit, respond_array
from broker.web.requests import Header, Parameters, address, header, reader

_HEADERS: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"vary", b"Authorization, Cookie, Accept"))
_PARAMETERS = Parameters(
    "event", "order", "limit", "after", "before", "search", "data", "last_event_id",
    mistaken={
        "event": ("events", "topic", "topics", "channel", "channels", "filter", "filters"),
        "order": ("sort", "sortby", "direction", "reverse"),
        "limit": ("count", "size", "pagesize", "perpage", "top"),
        "after": ("cursor", "offset", "page", "skip", "start"),
        "search": ("q", "query", "name", "contains"),
        "last_event_id": ("since", "id", "eventid", "lastid"),
    },
)  # fmt: skip
# A portion has at most so many bytes of data and records, unless it consists of a single larger record. To encode it
# takes about a millisecond, and a client has ``subscriber_stall_s`` to read it.
_PORTION_BYTES = 64 * KIB
_PORTION_RECORDS = 250


@dataclass(frozen=True, slots=True)
class _Query:
    selection: Selection
    data: bool
    last_id: EventId | None


class Snapshot:
    """The endpoint.

    Mutable state: how many responses are being written for each client, and a lock. The danger: to select and to encode
    records takes the event loop's time, in turns of about a millisecond. With many requests at once, each turn of the
    event loop would have one of them for each request, and the streams would wait for all. So only the request that
    has the lock selects or encodes."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._writing: Counter[str] = Counter()
        self._listing = asyncio.Lock()

    async def read(self, scope: Scope, receive: Receive, send: Send) -> None:
        broker = self._broker
        user = await reader(scope, broker)
        pairs = _PARAMETERS.read(scope)
        query = self._parse(pairs)
        if query.last_id is not None:
            await broker.reached(query.last_id)
        tag = _tag(broker.state_id(), query.selection, query.data, user is not None, array_type(scope))
        if _matches(header(scope, b"if-none-match"), tag):
            headers = _state_headers(tag, broker.state_id())
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body"})
            return
        client = client_key(address(scope))
        # A quarter of the places for one client, so that nobody can take all of them by reading slowly.
        most = broker.settings.snapshot_responses_max
        if self._writing.total() >= most or (
            self._writing[client] >= max(1, most // 4) and not broker.settings.trusts(address(scope))
        ):
            raise Unavailable("too many responses with the state are being written (snapshot_responses_max)")
        self._writing[client] += 1
        try:
            async with self._listing:
                # Nothing awaits between the two calls, so ``event_id`` is the id of the frames.
                event_id = broker.state_id()
                frames, more = await broker.state(query.selection)
            tag = _tag(event_id, query.selection, query.data, user is not None, array_type(scope))
            headers = _state_headers(tag, event_id)
            if more:
                headers.append(_next(pairs, frames[-1], newest_first=query.selection.newest_first))
            encoded = self._encode(frames, data=query.data, user=user is not None)
            await respond_array(scope, send, headers, encoded, broker.settings.subscriber_stall_s)
        finally:
            self._writing[client] -= 1
            self._writing += Counter()  # forgets clients without a response

    def _parse(self, pairs: list[tuple[str, str]]) -> _Query:
        values: dict[str, str] = {}
        for name, value in pairs:
            if name in values and name != "event":
                raise BadRequest(f"{name}: it was given more than once; give it once")
            values[name] = value
        patterns = [value for name, value in pairs if name == "event"]
        order, before = values.get("order", "name"), values.get("before")
        if order not in ("name", "newest"):
            raise BadRequest("order: expected name or newest (first)")
        if "data" in values and values["data"] != "no":
            raise BadRequest("data: the only possible value is no, which leaves the data out; otherwise leave it out")
        if order == "newest" and "after" in values:
            raise BadRequest("after: it is for the order by name; with order=newest, use before=<id>")
        if order == "name" and before is not None:
            raise BadRequest("before: it is for order=newest; in the order by name, use after=NAME")
        selection = Selection(
            filter=Filter.parse(patterns, self._broker.settings.filters_max),
            search=values.get("search", ""),
            newest_first=order == "newest",
            after=values.get("after", ""),
            before=None if before is None else self._broker.position_of(_id(before, "before"), "before"),
            limit=parse_limit(values["limit"]) if "limit" in values else None,
        )
        last_id = values.get("last_event_id")
        return _Query(selection, "data" not in values, None if last_id is None else _id(last_id, "last_event_id"))

    async def _encode(self, frames: list[Frame], *, data: bool, user: bool) -> AsyncIterator[list[bytes]]:
        """Returns the JSON of the records in portions."""
        start = 0
        while start < len(frames):
            async with self._listing:
                portion: list[bytes] = []
                size = 0
                for frame in islice(frames, start, start + _PORTION_RECORDS):
                    size += len(frame.named)
                    if portion and size > _PORTION_BYTES:
                        break
                    portion.append(encode_record(frame.record(), data=data, user=user))
                await asyncio.sleep(0)  # if the connection accepts all bytes at once, writing them gives nobody a turn
            start += len(portion)
            yield portion


def _state_headers(tag: bytes, event_id: EventId) -> list[Header]:
    return [*_HEADERS, (b"etag", tag), (b"last-event-id", str(event_id).encode())]


def _id(text: str, parameter: str) -> EventId:
    event_id = EventId.parse(text)
    if event_id is None:
        raise BadRequest(f"{parameter}: expected an id such as 9f3a1c07-41, of a record or from Last-Event-ID")
    return event_id


def _tag(event_id: EventId, selection: Selection, data: bool, user: bool, media: bytes) -> bytes:
    """Returns the ``ETag`` of a response. It is a hash of all that decides which bytes the response has."""
    filter = selection.filter
    query = (
        event_id, sorted(filter.names), filter.prefixes, selection.search, selection.newest_first, selection.after,
        selection.before, selection.limit, data, user, media.decode(),
    )  # fmt: skip
    return b'"%b"' % hashlib.sha256(msgspec.json.encode(query)).hexdigest()[:32].encode()


def _matches(sent: str | None, tag: bytes) -> bool:
    """Whether the client has this version already (RFC 9110, section 13.1.2)."""
    if sent is None:
        return False
    tags = {each.strip().removeprefix("W/") for each in sent.split(",")}
    return "*" in tags or tag.decode() in tags


def _next(pairs: list[tuple[str, str]], last: Frame, *, newest_first: bool) -> Header:
    """The client has waited for ``last_event_id`` already, so the next page does not wait again."""
    kept: list[tuple[str, object]] = [pair for pair in pairs if pair[0] not in ("after", "before", "last_event_id")]
    behind = ("before", last.event_id.decode()) if newest_first else ("after", last.event)
    return next_page([*kept, behind])

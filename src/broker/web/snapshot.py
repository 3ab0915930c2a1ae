"""``GET /snapshot``: the latest record of every event, now or at any other time, whole or in pages."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice

import msgspec
from starlette.types import Receive, Scope, Send

from broker.addresses import client_key
from broker.broker import Broker
from broker.errors import BadRequest, Unavailable
from broker.live.frames import Authors, Frame
from broker.live.listing import Selection
from broker.names import Filter
from broker.records import EventId, encode_record, read_time_parameter
from broker.settings import KIB
from broker.store.base import Version
from broker.users import STRANGER_ACTOR, Actor
from broker.web.credentials import COOKIE, reader
from broker.web.pages import array_type, next_page, parse_limit, respond_array
from broker.web.requests import Header, Parameters, address, is_known

_HEADERS: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"vary", b"Authorization, Cookie, Accept"))
_PARAMETERS = Parameters(
    "event", "order", "limit", "after", "before", "search", "data", "last_event_id", "at",
    mistaken={
        "event": ("events", "topic", "topics", "channel", "channels", "filter", "filters"),
        "order": ("sort", "sortby", "direction", "reverse"),
        "limit": ("count", "size", "pagesize", "perpage", "top"),
        "after": ("cursor", "offset", "page", "skip", "start"),
        "search": ("q", "query", "name", "contains"),
        "last_event_id": ("since", "id", "eventid", "lastid"),
        "at": ("time", "timestamp", "date", "when", "asof", "as_of"),
    },
)  # fmt: skip
# A portion has at most so many bytes of data and records, unless it consists of a single larger record. To encode it
# takes about a millisecond, and a client has ``subscriber_stall_s`` to read it.
_PORTION_BYTES = 64 * KIB
_PORTION_RECORDS = 250


@dataclass(frozen=True, slots=True)
class _Query:
    """What decides which bytes the response has, together with the state."""

    selection: Selection
    at_us: int | None  # the time of the state, in microseconds since 1970; None: now
    last_id: EventId | None
    data: bool
    user: bool  # whether the reader is a user, who may see who inserted a record
    media: bytes
    view: tuple[object, ...]  # what the response depends on if the rules hide something from the reader
    authors: Authors | None  # for which events strangers see who inserted a record, too

    def shows_user(self, event: str) -> bool:
        return self.user or (self.authors is not None and self.authors(event))


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
        actor = (await reader(scope, broker, COOKIE)).actor
        pairs = _PARAMETERS.read(scope)
        query = self._parse(pairs, actor, media=array_type(scope))
        if query.last_id is not None:
            await broker.reached(query.last_id)
        with contextlib.ExitStack() as place:
            event_id: EventId | None = broker.state_id()
            client = "" if broker.settings.trusts(address(scope)) else client_key(address(scope))
            if query.at_us is not None:
                event_id = await broker.id_at(query.at_us, client)
            broker.reads.check(actor)  # the request may have waited for long
            if event_id is None and query.selection.newest_first:
                raise BadRequest("order: what is published in the future has no position yet; leave order=newest out")
            if event_id is not None and is_known(scope, _tag(event_id, query)):
                headers = _state_headers(event_id, query)
                await send({"type": "http.response.start", "status": 304, "headers": headers})
                await send({"type": "http.response.body"})
                return
            last: Frame | Version | None
            if query.at_us is None:
                place.enter_context(self._place(scope))
                async with self._listing:
                    # Nothing awaits between the two calls, so ``event_id`` is the id of the frames.
                    event_id = broker.state_id()
                    frames, more = await broker.state(query.selection, actor)
                last, portions = frames[-1] if frames else None, self._encode(frames, query, actor)
            else:
                versions, more = await broker.state_at(query.at_us, event_id, query.selection, actor, client=client)
                place.enter_context(self._place(scope))  # requests that wait for their turn do not hold a place
                last, portions = versions[-1] if versions else None, self._encode_versions(versions, query, actor)
            headers = _state_headers(event_id, query)
            if more and last is not None:
                headers.append(_next(pairs, last, event_id if query.selection.newest_first else None))
            await respond_array(scope, send, headers, portions, broker.settings.subscriber_stall_s)

    @contextlib.contextmanager
    def _place(self, scope: Scope) -> Iterator[None]:
        """Holds one of the places for responses. Raises Unavailable if this client may have no more of them."""
        settings, client = self._broker.settings, client_key(address(scope))
        # A quarter of the places for one client, so that nobody can take all of them by reading slowly.
        most = settings.snapshot_responses_max
        if self._writing.total() >= most or (
            self._writing[client] >= max(1, most // 4) and not settings.trusts(address(scope))
        ):
            raise Unavailable("too many responses with the state are being written (snapshot_responses_max)")
        self._writing[client] += 1
        try:
            yield
        finally:
            self._writing[client] -= 1
            self._writing += Counter()  # forgets clients without a response

    def _parse(self, pairs: list[tuple[str, str]], actor: Actor, *, media: bytes) -> _Query:
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
        return _Query(
            selection, read_time_parameter(values["at"], "at")[1] if "at" in values else None,
            None if last_id is None else _id(last_id, "last_event_id"), "data" not in values,
            actor != STRANGER_ACTOR, media, self._broker.access.view_of(actor), self._broker.access.shows_author(),
        )  # fmt: skip

    async def _encode(self, frames: list[Frame], query: _Query, actor: Actor) -> AsyncIterator[list[bytes]]:
        """Returns the JSON of the records in portions. The client may read them slowly. So it raises Unauthorized, or
        Unavailable, if the reader may not see the next portion any more."""
        start = 0
        while start < len(frames):
            async with self._listing:
                portion: list[bytes] = []
                size = 0
                for frame in islice(frames, start, start + _PORTION_RECORDS):
                    size += len(frame.named)
                    if portion and size > _PORTION_BYTES:
                        break
                    portion.append(encode_record(frame.record(), data=query.data, user=query.shows_user(frame.event)))
                await asyncio.sleep(0)  # if the connection accepts all bytes at once, writing them gives nobody a turn
            end = start + len(portion)
            self._broker.reads.check_again(actor, query.view, (frame.event for frame in frames[start:end]))
            start = end
            yield portion

    async def _encode_versions(
        self, versions: list[Version], query: _Query, actor: Actor
    ) -> AsyncIterator[list[bytes]]:
        """Does the same for the versions of another time, which are read from the store."""
        async for records in self._broker.reads.versions(versions, actor, query.view):
            async with self._listing:
                encoded = [
                    encode_record(record, data=query.data, user=query.shows_user(record.event)) for record in records
                ]
                await asyncio.sleep(0)
            yield encoded


def _state_headers(event_id: EventId | None, query: _Query) -> list[Header]:
    """A state of the future has neither an ``ETag`` nor an id, because everything may still change."""
    if event_id is None:
        return [*_HEADERS]
    return [*_HEADERS, (b"etag", _tag(event_id, query)), (b"last-event-id", str(event_id).encode())]


def _id(text: str, parameter: str) -> EventId:
    event_id = EventId.parse(text)
    if event_id is None:
        raise BadRequest(f"{parameter}: expected an id such as 9f3a1c07-41, of a record or from Last-Event-ID")
    return event_id


def _tag(event_id: EventId, query: _Query) -> bytes:
    """Returns the ``ETag`` of a response. It is a hash of all that decides which bytes the response has. The time of
    the state is not part of it, because ``event_id`` stands for the state."""
    selection = query.selection
    parts = (
        event_id, sorted(selection.filter.names), selection.filter.prefixes, selection.search, selection.newest_first,
        selection.after, selection.before, selection.limit, query.data, query.user, query.media.decode(), query.view,
    )  # fmt: skip
    return b'"%b"' % hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32].encode()


def _next(pairs: list[tuple[str, str]], last: Frame | Version, newest: EventId | None) -> Header:
    """Returns the link to the page after the one that ends with ``last``. ``newest`` is the id of the state if the
    newest come first. The client has waited for ``last_event_id`` already, so the next page does not wait again."""
    kept: list[tuple[str, object]] = [pair for pair in pairs if pair[0] not in ("after", "before", "last_event_id")]
    behind = ("after", last.event) if newest is None else ("before", f"{newest.epoch}-{last.position}")
    return next_page([*kept, behind])

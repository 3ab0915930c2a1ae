"""``GET /events``: the stream (docs/http.md), and its transport under other ASGI servers than Broker's own."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, cast
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.types import Receive, Scope, Send

from broker import raw_json, sse
from broker.accounts.accounts import Credential
from broker.broker import Broker
from broker.errors import BadRequest, TooLarge, Unauthorized, Unavailable
from broker.live.frames import Form
from broker.live.handover import EXTENSION, Handover
from broker.live.reader import Reader
from broker.live.subscriber import StreamTransport, Subscriber
from broker.live.subscription import Subscription
from broker.names import Filter
from broker.rules.rights import refuse
from broker.settings import KIB
from broker.users import STRANGER_ACTOR, Actor
from broker.web.credentials import HEADER, Accepted, caller, reader, reader_cached
from broker.web.requests import Bodies, Header, Parameters, address, header

_HEADERS: tuple[Header, ...] = (
    # The charset of a stream is always UTF-8, but some libraries assume Latin-1 for a text whose charset is not given.
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # Compressing a stream delays its events. The middleware of many development servers compresses every response
    # unless this header forbids transformations (RFC 9111, section 5.2.2.6).
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would buffer events
    (b"referrer-policy", b"no-referrer"),  # the URL may have a ticket
)

# EventSource never reconnects after a refusal. So unknown parameters are ignored here, because proxies and libraries
# add some (``_=1700000000``). Only parameters that look like a filter or an id are refused: if they were ignored, the
# client would receive another stream than it asked for.
_PARAMETERS = Parameters(
    "event", "new", "last_event_id", "frames", "heartbeat", "pending", "user", "ticket", strict=False,
    mistaken={
        "event": ("events", "topic", "topics", "channel", "channels", "filter", "filters"),
        "last_event_id": ("since", "cursor", "id", "eventid", "lastid"),
    },
)  # fmt: skip


_ID_CHARACTERS_MAX = 1_000  # of an id in a body; a few ids may be joined by commas


class StreamBody(msgspec.Struct, forbid_unknown_fields=True):
    """The parameters of ``GET /events`` as JSON, for clients with more names than fit into a URL."""

    event: str | list[str] | None = None
    new: str | list[str] | None = None
    # The longest id of this server has 27 characters. Without a limit, each stream under another ASGI server than
    # Broker's own could keep a string of a mebibyte in memory, as long as it is open.
    last_event_id: Annotated[str, msgspec.Meta(max_length=_ID_CHARACTERS_MAX)] | None = None
    frames: str | None = None
    heartbeat: str | None = None
    pending: str | None = None
    user: str | None = None


_HINT = "$pending"  # as a name that is asked for, like any other event
_decoder = msgspec.json.Decoder(StreamBody)
_BODY_MAX = 256 * KIB  # to decode a larger one would keep the event loop busy, although no stream needs it


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the client asked for, before it is checked. Every parameter may have been given more than once."""

    event: Sequence[str]
    new: Sequence[str]
    last_event_id: Sequence[str]
    frames: Sequence[str]
    heartbeat: Sequence[str]
    pending: Sequence[str]
    user: Sequence[str]
    ticket: Sequence[str] = ()  # only in a URL

    @property
    def accepted(self) -> Accepted:
        return Accepted(cookie=True, ticket=self.ticket)

    @classmethod
    @lru_cache(100)  # after a lost connection, many clients ask for the same; few, because a query may be long
    def by_query(cls, query: bytes) -> _Asked:
        values: dict[str, list[str]] = {name: [] for name in cls.__slots__}
        for name, value in _PARAMETERS.read({"query_string": query}):
            values[name].append(value)
        return cls(**values)

    @classmethod
    def by_body(cls, body: bytes) -> _Asked:
        if len(body) > _BODY_MAX:
            raise TooLarge(f"POST /events: the body is larger than {_BODY_MAX} bytes, which no filter needs")
        sent, _ = raw_json.decode(_decoder, body)
        values = (sent.event, sent.new, sent.last_event_id, sent.frames, sent.heartbeat, sent.pending, sent.user)
        return cls(*([] if value is None else [value] if isinstance(value, str) else value for value in values))


Take = Callable[[Subscriber], StreamTransport | None]  # see ``Broker.subscribe``


class Opening(NamedTuple):
    """A stream that a client may open."""

    filter: Filter
    form: Form
    heartbeat_events: bool
    pending: bool
    last_id: str | None
    new: Filter | None
    reader: Reader
    address: str

    def subscription(self, *, chunked: bool = False, last_chunk: bool = False) -> Subscription:
        return Subscription(self.filter, self.form, self.heartbeat_events, self.pending, chunked, last_chunk)


class Stream:
    """The endpoint. It hands the connection over to a subscriber, or gives it a transport on top of ``send``."""

    def __init__(self, broker: Broker, bodies: Bodies) -> None:
        self._broker = broker
        self._bodies = bodies

    async def open(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"]
        scope["query_string"] = _without_ticket(query)  # another ASGI server may log it later
        asked = _Asked.by_query(query)
        await self._open(asked, asked.accepted, scope, receive, send)

    async def open_by_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _PARAMETERS.read(scope):
            raise BadRequest("POST /events: the parameters belong in the body; move those of the URL there")
        # The body is not kept in a variable: under other ASGI servers this coroutine runs as long as the stream.
        await self._open(_Asked.by_body(await self._bodies.read_json(scope, receive)), HEADER, scope, receive, send)

    def prepare(self, scope: Scope) -> Opening | None:
        """Does what ``open`` does first, for a server that does the rest with ``connect``. Returns None if ``open``
        must respond, because there is something to wait for, or something is wrong with the request."""
        broker = self._broker
        asked = _Asked.by_query(scope["query_string"])
        who = reader_cached(scope, broker, asked.accepted)
        if who is None or broker.full(address(scope)) or asked.pending or _HINT in asked.event:
            return None
        broker.rights.check()
        return self._read(asked, scope, who, refused=False)

    def connect(self, opening: Opening, handover: Handover, headers: Sequence[Header]) -> None:
        """Opens the stream. ``headers`` are added to those of the response."""
        head = handover.head([*_HEADERS, *headers]) + sse.chunk(_retry(self._broker.settings.retry_ms))
        subscription = opening.subscription(chunked=handover.chunked, last_chunk=handover.last_chunk)
        self._subscribe(opening, subscription, handover.take, head)

    async def _open(self, asked: _Asked, accepted: Accepted, scope: Scope, receive: Receive, send: Send) -> None:
        broker = self._broker
        refused = broker.full(address(scope))
        pending = bool(asked.pending) or _HINT in asked.event
        credential = Credential()
        try:
            credential = await (caller if pending else reader)(scope, broker, accepted)
            broker.rights.check()
        except Unavailable:  # the store, which has the users, is unreachable for now; or the rules cannot be used
            refused = True
        opening = self._read(asked, scope, Reader(credential.actor, credential.expires_s), refused=refused)
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        # ``retry:`` is sent together with the headers, which saves a system call, and a client that is refused needs it
        # as well.
        await send({"type": "http.response.body", "body": _retry(broker.settings.retry_ms), "more_body": True})
        extensions = cast(MutableMapping[str, Any], scope.get("extensions") or {})
        handover: Handover | None = extensions.get(EXTENSION)
        if refused:
            await _refuse(send, handover)
        elif handover is not None:
            subscription = opening.subscription(chunked=handover.chunked, last_chunk=handover.last_chunk)
            self._subscribe(opening, subscription, handover.take)
        else:
            transport = SendTransport(broker.settings.subscriber_buffer_bytes)
            self._subscribe(opening, opening.subscription(), transport.take)
            await transport.run(receive, send)

    def _read(self, asked: _Asked, scope: Scope, who: Reader, *, refused: bool) -> Opening:
        """Returns what the client asks for. Raises BadRequest, Unauthorized and Forbidden."""
        broker = self._broker
        records = _only(asked.frames, "frames", "record", "sends every record whole, as a message without a name")
        pending = _only(asked.pending, "pending", "yes", "sends $pending when the list of pending records has changed")
        _check_user(asked.user, who.actor)
        form = Form.NAMED
        if records:
            form = Form.RECORD if who.actor == STRANGER_ACTOR else Form.RECORD_WITH_USER
        filter = _filter(asked.event, broker.settings.filters_max)
        if not refused:
            _check_readable(broker, filter, who.actor)
        heartbeat_events = _only(
            asked.heartbeat, "heartbeat", "event", "sends heartbeats as events that a page can receive"
        )
        # EventSource sends the header whenever it reconnects, so the header's id is newer than the one in the URL.
        last_id = _last(header(scope, b"last-event-id") or "") or _last(",".join(asked.last_event_id))
        new = _new(asked, last_id, broker.settings.filters_max)
        pending |= _HINT in asked.event
        return Opening(filter, form, heartbeat_events, pending, last_id or None, new, who, address(scope))

    def _subscribe(self, opening: Opening, subscription: Subscription, take: Take, head: bytes = b"") -> None:
        self._broker.subscribe(subscription, opening.address, opening.last_id, take, opening.new, opening.reader, head)


def _filter(patterns: Sequence[str], patterns_max: int) -> Filter:
    """Returns the filter of the records. The hint is no record, so a stream of the hint alone has none: no name begins
    with it. Raises BadRequest."""
    records = [pattern for pattern in patterns if pattern != _HINT]
    return Filter.parse(records, patterns_max) if records or not patterns else Filter(prefixes=(_HINT,))


def _check_user(names: Sequence[str], actor: Actor) -> None:
    """Raises Unauthorized if the client wants to be another user than the token says. A page that has lost its token
    would otherwise go on as a stranger, and nobody would notice."""
    if any(not name or name != actor.username for name in names):  # "" comes from a page that has lost the name, too
        raise Unauthorized("user: the token, cookie or ticket is missing, or is another user's; log in as this user")


def _check_readable(broker: Broker, filter: Filter, actor: Actor) -> None:
    """Raises Forbidden, or Unauthorized, if the client asks only for names that it may not read. It is decided by the
    names alone, whether or not there are such events."""
    if filter.names and not filter.prefixes:
        denied = broker.access.denied(filter, actor)
        if len(denied) == len(filter.names):
            refuse(actor, "read")


def _new(asked: _Asked, last_id: str, patterns_max: int) -> Filter | None:
    """Returns the part of the filter that is new to a client that resumes, or None if there is no such part. Raises
    BadRequest."""
    if not asked.new:
        return None
    if not last_id:
        raise BadRequest("new: it needs the id from which the stream resumes; without an id all events are sent anyway")
    new = _filter(asked.new, patterns_max)  # this limits their number
    if missing := next((name for name in asked.new if name not in asked.event), None):
        raise BadRequest(f"new: {missing} is not among the values of event; give it there, too")
    return new


def _without_ticket(query: bytes) -> bytes:
    names = (unquote_to_bytes(part.partition(b"=")[0]).lower() for part in query.split(b"&"))
    return b"&".join(part for part, name in zip(query.split(b"&"), names, strict=True) if b"ticket" not in name)


async def _refuse(send: Send, handover: Handover | None) -> None:
    """Refuses a stream for now. The response is a stream that ends at once, because EventSource reconnects only after a
    response with status 200."""
    if handover is not None and not handover.last_chunk:
        handover.cut_short()
    else:
        await send({"type": "http.response.body"})


def _retry(milliseconds: int) -> bytes:
    """A random delay, so that after a restart of the server its clients do not all reconnect at the same moment."""
    return sse.retry(int(milliseconds * (0.5 + random.random())))  # noqa: S311 (no secret)


def _only(values: Sequence[str], name: str, value: str, effect: str) -> bool:
    """Returns whether a parameter with only one possible value was given. Raises BadRequest for any other value."""
    if values and any(each != value for each in values):
        raise BadRequest(
            f"{name}: the only possible value is {value}, which {effect}; otherwise leave the parameter out"
        )
    return bool(values)


def _last(ids: str) -> str:
    """Returns the last of several ids. If a program passes a saved id to its library as a header, the library may later
    add a second header of the same name, with the newer id that it has received itself. The two are joined by a comma
    (RFC 9110, section 5.3), which no id contains."""
    if "," not in ids:
        return ids.strip()
    return next((event_id for part in reversed(ids.split(",")) if (event_id := part.strip())), "")


class SendTransport:
    """A subscriber's transport on top of ASGI's ``send``, for servers that cannot hand their connections over.

    Mutable state: the subscriber, and the bytes that were written and are not sent yet. Like the transport of a socket,
    it pauses the subscriber when more than ``high`` bytes are not sent yet, and resumes it when only a quarter of
    ``high`` is left."""

    def __init__(self, high: int) -> None:
        self._subscriber: Subscriber
        self._high = high
        self._buffer: deque[bytes] = deque()
        self._size = 0
        self._closing = False
        self._changed = asyncio.Event()
        self._aborted = asyncio.get_running_loop().create_future()

    def take(self, subscriber: Subscriber) -> StreamTransport:
        """See ``Broker.subscribe``."""
        self._subscriber = subscriber
        return StreamTransport(self)

    async def run(self, receive: Receive, send: Send) -> None:
        """Returns when the server or the client has ended the stream."""
        tasks = {asyncio.ensure_future(self._pump(send)), asyncio.ensure_future(_disconnected(receive))}
        try:
            await asyncio.wait({*tasks, self._aborted}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the host application is stopping, and its grace period for streams is over
            if not self._buffer and not self._subscriber.paused:
                await send({"type": "http.response.body"})
        finally:
            self._closing = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._subscriber.connection_lost(None)

    async def _pump(self, send: Send) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._buffer:
                body = self._buffer.popleft()
                await send({"type": "http.response.body", "body": body, "more_body": True})
                self._size -= len(body)
                if self._subscriber.paused and self._size <= self._high // 4:
                    self._subscriber.resume_writing()
            if self._closing:
                await send({"type": "http.response.body"})
                return

    def write(self, data: bytes | memoryview, /) -> None:
        if self._closing:
            return
        self._buffer.append(bytes(data))
        self._size += len(data)
        self._changed.set()
        if self._size > self._high and not self._subscriber.paused:
            self._subscriber.pause_writing()

    def close(self) -> None:
        self._closing = True
        self._changed.set()

    def abort(self) -> None:
        self._closing = True
        if not self._aborted.done():
            self._aborted.set_result(None)

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_extra_info(self, name: str, /) -> Any:
        return None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

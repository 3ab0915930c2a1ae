"""``GET /events``: the stream (docs/http.md), and its transport under other ASGI servers than Broker's own."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import MutableMapping
from typing import Any, cast

from starlette.types import Receive, Scope, Send

from broker import sse
from broker.broker import Broker
from broker.errors import BadRequest, Unavailable
from broker.live.handover import EXTENSION, Handover
from broker.live.subscriber import StreamTransport, Subscriber
from broker.live.subscription import Subscription
from broker.names import Filter
from broker.web.requests import Header, Parameters, address, caller, header

_HEADERS: tuple[Header, ...] = (
    # The charset of a stream is always UTF-8, but some libraries assume Latin-1 for a text whose charset is not given.
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # Compressing a stream delays its events. The middleware of many development servers compresses every response
    # unless this header forbids transformations (RFC 9111, section 5.2.2.6).
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would buffer events
)

# EventSource never reconnects after a refusal. So unknown parameters are ignored here, because proxies and libraries
# add some (``_=1700000000``). Only parameters that look like a filter or an id are refused: if they were ignored, the
# client would receive another stream than it asked for.
_PARAMETERS = Parameters(
    "event", "last_event_id", "heartbeat", strict=False,
    mistaken={
        "event": ("events", "topic", "topics", "channel", "channels", "filter", "filters"),
        "last_event_id": ("since", "cursor", "id", "eventid", "lastid"),
    },
)  # fmt: skip


class Stream:
    """The endpoint. It hands the connection over to a subscriber, or gives it a transport on top of ``send``."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def open(self, scope: Scope, receive: Receive, send: Send) -> None:
        broker = self._broker
        refused = broker.full(address(scope))
        if not broker.settings.events_public:
            try:
                await caller(scope, broker)
            except Unavailable:  # the store, which has the users, is unreachable for now
                refused = True
        parameters = _PARAMETERS.read(scope)
        patterns = [value for name, value in parameters if name == "event"]
        filter = Filter.parse(patterns, broker.settings.filters_max)
        heartbeat_events = _heartbeat_events([value for name, value in parameters if name == "heartbeat"])
        # EventSource sends the header whenever it reconnects, so the header's id is newer than the one in the URL.
        last_id = _last(header(scope, b"last-event-id") or "")
        last_id = last_id or _last(",".join([value for name, value in parameters if name == "last_event_id"]))
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
            subscription = Subscription(filter, heartbeat_events, handover.chunked, handover.last_chunk)
            broker.subscribe(subscription, address(scope), last_id or None, handover.take)
        else:
            transport = SendTransport(broker.settings.subscriber_buffer_bytes)
            broker.subscribe(Subscription(filter, heartbeat_events), address(scope), last_id or None, transport.take)
            await transport.run(receive, send)


async def _refuse(send: Send, handover: Handover | None) -> None:
    """Refuses a stream for now. The response is a stream that ends at once, because EventSource reconnects only after a
    response with status 200."""
    if handover is not None and not handover.last_chunk:
        handover.cut_short()
    else:
        await send({"type": "http.response.body"})


def _retry(milliseconds: int) -> bytes:
    """A random delay, so that after a restart of the server its clients do not all reconnect at the same moment."""
    return sse.retry(random.randint(milliseconds // 2, milliseconds * 3 // 2))  # noqa: S311 (no secret)


def _heartbeat_events(values: list[str]) -> bool:
    if any(value != "event" for value in values):
        raise BadRequest(
            "heartbeat: the only possible value is event, which sends heartbeats as events that a page can receive; "
            "otherwise leave the parameter out"
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

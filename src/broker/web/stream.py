"""``GET /events``: the stream (docs/http.md)."""

from __future__ import annotations

import asyncio
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
    # The charset is always UTF-8 here; but some libraries take text without one for Latin-1.
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # To compress a stream is to hold its events back: the middleware of many development servers does so, unless it is
    # told not to transform what it passes on (RFC 9111, section 5.2.2.6).
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)

# A refusal is final for an EventSource. So what proxies and libraries add to an address (``_=1700000000``) is ignored,
# and only what looks like a filter or an id is refused: without it the stream would be another one.
_PARAMETERS = Parameters(
    "event", "last_event_id", "heartbeat", strict=False,
    mistaken={
        "event": ("events", "topic", "topics", "channel", "channels", "filter", "filters"),
        "last_event_id": ("since", "cursor", "id", "eventid", "lastid"),
    },
)  # fmt: skip


class Events:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        broker = self._broker
        refused = broker.full(address(scope))
        if not broker.settings.events_public:
            try:
                await caller(scope, broker)
            except Unavailable:  # the store cannot be reached, and the users are in it
                refused = True
        asked = _PARAMETERS.read(scope)
        filter = Filter.parse([value for name, value in asked if name == "event"], broker.settings.filters_max)
        heartbeat_events = _heartbeat_events([value for name, value in asked if name == "heartbeat"])
        # EventSource sends the header with each reconnect, so it is the newer one.
        last_id = _last(header(scope, b"last-event-id") or "")
        last_id = last_id or _last(",".join(value for name, value in asked if name == "last_event_id"))
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        extensions = cast(MutableMapping[str, Any], scope.get("extensions") or {})
        handover: Handover | None = extensions.get(EXTENSION)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
        elif refused:
            # A plain EventSource gives up for good on any other status: a temporary refusal is a stream that ends.
            body = sse.retry(broker.settings.retry_ms)
            cut_short = handover is not None and not handover.last_chunk
            await send({"type": "http.response.body", "body": body, "more_body": cut_short})
            if handover is not None and cut_short:
                handover.cut_short()
        elif handover is not None:
            subscription = Subscription(filter, heartbeat_events, handover.chunked, handover.last_chunk)
            broker.subscribe(subscription, address(scope), last_id or None, handover.take)
        else:
            transport = SendTransport(broker.settings.subscriber_buffer_bytes)
            broker.subscribe(Subscription(filter, heartbeat_events), address(scope), last_id or None, transport.take)
            await transport.run(receive, send)


def _heartbeat_events(values: list[str]) -> bool:
    if any(value != "event" for value in values):
        raise BadRequest("heartbeat: expected event, for heartbeats that a page can receive; or leave it out")
    return bool(values)


def _last(ids: str) -> str:
    """Of several the last. A library that is given a saved id in a header adds its own, newer one behind it, and fields
    of one name are joined by commas, of which an id has none (RFC 9110, section 5.3)."""
    return next((each for part in reversed(ids.split(",")) if (each := part.strip())), "")


class SendTransport:
    """A subscriber's transport on top of ASGI's ``send``, for servers that do not hand their connections over.

    Mutable state: its subscriber, and what was written and is not sent yet. That is bounded as in a socket's transport:
    beyond the high-water mark the subscriber is paused."""

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
        """Returns when the stream has ended, by either side."""
        tasks = {asyncio.ensure_future(self._pump(send)), asyncio.ensure_future(_disconnected(receive))}
        try:
            await asyncio.wait({*tasks, self._aborted}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the host stops; it has waited for streams as long as it wants to
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

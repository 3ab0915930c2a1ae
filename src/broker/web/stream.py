"""``GET /events``: the stream (docs/http.md)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import MutableMapping
from typing import Any, Protocol, cast

from starlette.types import Receive, Scope, Send

from broker import sse
from broker.addresses import visitor
from broker.broker import Broker
from broker.errors import BadRequest, Unavailable
from broker.names import Filter
from broker.settings import Settings
from broker.subscriber import Subscriber
from broker.web.http import Header, address, caller, header, query

HANDOVER = "broker.handover"  # the key of the hand-over among the scope's extensions

_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)


class Handover(Protocol):
    """A server's offer to give the connection away; see ``server.py``."""

    chunked: bool  # whether the response is framed in chunks

    def take(self, subscriber: Subscriber, settings: Settings) -> bool:
        """Makes the subscriber the protocol of the connection; False if the client has gone already."""
        ...


class Events:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        broker = self._broker
        refused = broker.hub.full(address(scope))
        if not broker.settings.events_public:
            try:
                await caller(scope, broker)
            except Unavailable:  # the store is away, and with it the users
                refused = True
        asked = query(scope)
        for name, _ in asked:
            if name not in ("event", "last_event_id"):
                raise BadRequest(f"{name[:50]}: there is no such parameter; use event (again for more), last_event_id")
        filter = Filter.parse([value for name, value in asked if name == "event"], broker.settings.filters_max)
        last_id = header(scope, b"last-event-id") or next((v for name, v in asked if name == "last_event_id"), "")
        await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        if scope["method"] == "HEAD" or refused:
            # A plain EventSource gives up for good on any other answer: a temporary refusal is a stream that ends.
            body = b"" if scope["method"] == "HEAD" else sse.retry(broker.settings.retry_ms)
            await send({"type": "http.response.body", "body": body})
            return
        extensions = cast(MutableMapping[str, Any], scope.get("extensions") or {})
        handover: Handover | None = extensions.get(HANDOVER)
        if handover is not None:
            subscriber = Subscriber(broker.hub, filter, chunked=handover.chunked, visitor=visitor(address(scope)))
            if handover.take(subscriber, broker.settings):
                broker.subscribe(subscriber, last_id or None)
        else:
            subscriber = Subscriber(broker.hub, filter, chunked=False, visitor=visitor(address(scope)))
            transport = SendTransport(subscriber, broker.settings.subscriber_buffer_bytes)
            subscriber.take(transport, paused=False)
            broker.subscribe(subscriber, last_id or None)
            await transport.run(receive, send)


class SendTransport:
    """A subscriber's transport over ASGI's ``send``, for servers that do not hand their connections over.

    Mutable state: what was written and not yet sent, bounded as a socket's transport is: beyond the high-water mark
    the subscriber is told to pause."""

    def __init__(self, subscriber: Subscriber, high: int) -> None:
        self._subscriber = subscriber
        self._high = high
        self._buffer: deque[bytes] = deque()
        self._size = 0
        self._closing = False
        self._changed = asyncio.Event()
        self._aborted = asyncio.get_running_loop().create_future()

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

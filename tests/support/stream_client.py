"""A client of streams in the process of the test, to which Broker writes without a connection."""

from __future__ import annotations

import time
from typing import Any

from broker import Broker
from broker.live.reader import Reader
from broker.live.subscriber import StreamTransport, Subscriber
from broker.live.subscription import Subscription
from broker.users import Actor
from tests.support.servers import EventReader


class StreamClient:
    """The client is also the transport of its stream, and receives every byte at once."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.reader = EventReader()
        self.closed_at: float | None = None  # by ``time.monotonic``
        self.subscriber: Subscriber

    def open_stream(self, broker: Broker, subscription: Subscription, last_id: str | None = None) -> None:
        """Opens a stream, or another one after the first has ended. ``reader`` has only the frames of the last one."""
        self.reader, self.closed_at = EventReader(), None
        broker.subscribe(subscription, "127.0.0.1", last_id, self._take, None, Reader(self.actor))

    def _take(self, subscriber: Subscriber) -> StreamTransport:
        self.subscriber = subscriber
        return StreamTransport(self)

    def write(self, data: bytes | memoryview, /) -> None:
        self.reader.take(bytes(data))

    def close(self) -> None:
        self.closed_at = time.monotonic()
        self.subscriber.connection_lost(None)

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, /) -> Any:
        return None

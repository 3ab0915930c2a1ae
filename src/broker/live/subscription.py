"""What a stream was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from broker.names import EVERYTHING, Filter


@dataclass(frozen=True, slots=True)
class Subscription:
    """Streams with equal subscriptions receive the same bytes, which are put together once for all of them."""

    filter: Filter = EVERYTHING
    heartbeat_events: bool = False  # heartbeats are events that a page can receive
    chunked: bool = False  # HTTP/1.1; HTTP/1.0 has no chunks, and other ASGI servers make their own
    last_chunk: bool = False  # the response ends with its last chunk: see live/handover.py

    @property
    def partial(self) -> bool:
        """Whether it shows only a part of the log, so that positions may pass of which its reader receives nothing."""
        return not self.filter.everything

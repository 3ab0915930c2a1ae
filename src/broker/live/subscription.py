"""What a client asked for when it opened its stream."""

from __future__ import annotations

from dataclasses import dataclass

from broker.live.frames import Form
from broker.live.reader import ReaderClass
from broker.names import EVERYTHING, Filter


@dataclass(frozen=True, slots=True)
class Subscription:
    """Streams with equal subscriptions receive the same bytes, which are encoded once for all of them."""

    filter: Filter = EVERYTHING
    form: Form = Form.NAMED
    heartbeat_events: bool = False  # whether heartbeats are sent as events, which a page can receive
    pending: bool = False  # whether the stream says when the list of pending records may have changed
    # Whether Broker frames the response in chunks, as HTTP/1.1 needs it. HTTP/1.0 has no chunks, and other ASGI servers
    # frame the response themselves.
    chunked: bool = False
    last_chunk: bool = False  # whether the response ends with the last chunk: see live/handover.py
    readers: ReaderClass | None = None  # who may read only a part of the events; None: everything

    @property
    def partial(self) -> bool:
        """Whether the stream shows only a part of the events, because of its filter or of the rules. Its client
        receives nothing for the positions of other events."""
        return self.readers is not None or not self.filter.everything

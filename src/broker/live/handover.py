"""A server's offer to give a stream's connection away: what ``web`` asks for, and Broker's own server grants."""

from __future__ import annotations

from typing import Protocol

from broker.live.subscriber import StreamTransport, Subscriber

EXTENSION = "broker.handover"  # the key of the offer among an ASGI scope's extensions


class Handover(Protocol):
    """Streams leave HTTP behind: once the headers are written, the socket belongs to a subscriber."""

    chunked: bool  # whether the response is framed in chunks
    # Whether the response ends with its last chunk. Several libraries take that for the end of the data, and would not
    # open the stream again; but of a stream that ends without it, proxies that are made of Node's http-proxy never
    # notify their client. They ask for the connection to be closed, which the libraries do not (docs/decisions/0007).
    last_chunk: bool

    def take(self, subscriber: Subscriber) -> StreamTransport | None:
        """Makes the subscriber the protocol of the connection; None if the client has gone already."""
        ...

    def cut_short(self) -> None:
        """Closes the connection behind what was sent, without the last chunk."""
        ...

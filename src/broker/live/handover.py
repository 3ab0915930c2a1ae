"""How a stream takes over its connection from the server. ``web`` uses this interface, and Broker's own server
implements it (``server/handover.py``). Other ASGI servers cannot hand their connections over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broker.live.subscriber import StreamTransport, Subscriber

EXTENSION = "broker.handover"  # the server puts its offer under this key into the extensions of the ASGI scope


class Handover(Protocol):
    """The server's offer to hand over the connection of one request.

    A stream needs HTTP only until its headers are written. From then on the connection can belong to a subscriber,
    which writes to it directly."""

    chunked: bool  # whether the response is framed in chunks
    # Whether the response ends with the last chunk (RFC 9112, section 7.1), which marks the end of the data. Several
    # client libraries do not reconnect after a last chunk, so streams usually end without it. But proxies that are
    # based on Node's http-proxy never notify their client of the end of a stream that has no last chunk. These proxies
    # can be recognised, because they ask for the connection to be closed, and the libraries do not. So their streams
    # end with the last chunk (docs/decisions/0007).
    last_chunk: bool

    def head(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Returns the head of a response with status 200, whose length is not known."""
        ...

    def take(self, subscriber: Subscriber) -> StreamTransport | None:
        """Makes the subscriber the asyncio protocol of the connection, and returns the connection. Returns None if the
        client has closed the connection already."""
        ...

    def cut_short(self) -> None:
        """Closes the connection after the bytes that were written before, without the last chunk."""
        ...

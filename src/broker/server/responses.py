"""Adds two features to the way Uvicorn sends responses: a small response is sent in one write, and HTTP/1.0 is
supported."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from broker.errors import BrokerError


class _Joined:
    """Replaces the transport while Uvicorn sends a part of a response. It has the methods of a transport that Uvicorn
    uses for that, and collects the written data until ``flush``."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._pieces.append(data)

    def flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._transport.write(b"".join(pieces))

    def close(self) -> None:
        self.flush()
        self._transport.close()


def adapted(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """Returns an app that sends the headers and the first piece of the body in one write, and no chunks to a client of
    HTTP/1.0.

    Uvicorn writes headers and body separately, which takes two system calls, and wakes the client twice. And it would
    send chunks also over HTTP/1.0, which does not have them: without a content length, the end of the connection marks
    the end of the body there."""
    old = cycle.scope["http_version"] == "1.0"

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        head: Message | None = None

        async def joined(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
                if old and not any(name.lower() == b"content-length" for name, _ in message["headers"]):
                    cycle.chunked_encoding = False
                return
            # Uvicorn raises an error if a body is longer than the content length that it expects. Such a response has
            # none, so the length of each piece is set as the expected one.
            if old and cycle.chunked_encoding is False and cycle.expected_content_length == 0:
                cycle.expected_content_length = len(message.get("body", b""))
            if head is None:
                await send(message)
                return
            transport, start = cycle.transport, head
            head = None
            cycle.transport = both = _Joined(transport)  # type: ignore[assignment] # it has all methods that a cycle uses
            try:
                await send(start)
                await send(message)
            finally:
                cycle.transport = transport
                both.flush()

        try:
            await app(scope, receive, joined)
        except BrokerError:  # the store failed in the middle of a response, and has logged why
            cycle.disconnected = True
            cycle.transport.abort()  # so that the client does not mistake a partial response for a complete one

    return wrapped

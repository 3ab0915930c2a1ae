"""Hands a connection over: a subscriber replaces Uvicorn's protocol."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from broker.live.subscriber import StreamTransport, Subscriber
from broker.server.direct import DirectRequest
from broker.settings import Settings


class ConnectionHandover:
    """Implements ``live.handover.Handover``. Uvicorn's parser, cycle, task and scope are freed, so that an idle stream
    uses only about two kilobytes.

    This object keeps the cycle of the stream's own request, because the protocol's current cycle may belong to a
    request that was pipelined after ``GET /events``."""

    def __init__(
        self, protocol: HttpToolsProtocol, cycle: RequestResponseCycle | DirectRequest, settings: Settings
    ) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._settings = settings
        self.chunked = cycle.scope["http_version"] != "1.0"
        # Whether the client asked to close the connection after the response. ``keep_alive`` is read now, because
        # Uvicorn changes it when the server stops.
        self.last_chunk = not cycle.keep_alive

    def head(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        lines = [*self._protocol.server_state.default_headers, *headers]
        if not self._cycle.keep_alive:
            lines.append((b"connection", b"close"))
        if self.chunked:
            lines.append((b"transfer-encoding", b"chunked"))
        return b"%b%b\r\n" % (STATUS_LINE[200], b"".join([b"%b: %b\r\n" % line for line in lines]))

    def take(self, subscriber: Subscriber) -> StreamTransport | None:
        protocol, cycle = self._protocol, self._cycle
        transport = protocol.transport
        if cycle.disconnected or transport.is_closing():
            cycle.disconnected = True  # otherwise Uvicorn logs that a response was not completed
            return None
        paused = protocol.flow.write_paused
        protocol.pipeline.clear()  # requests after a response that does not end will never be answered
        # Reading may have been paused because of those requests. While it is paused, the server does not notice if
        # the client closes the connection.
        protocol.flow.resume_reading()
        cycle.disconnected = True  # so that the cycle sends nothing more, and does not wait any longer
        cycle.message_event.set()
        # An exception is passed, because without one Uvicorn's protocol closes the transport.
        protocol.connection_lost(ConnectionError("handed over"))
        transport.set_protocol(subscriber)
        sock = transport.get_extra_info("socket")
        plain = transport.get_extra_info("sslcontext") is None
        if plain:
            # The subscriber sends directly on the socket only if the transport pauses as soon as it buffers any bytes:
            # see StreamTransport.
            transport.set_write_buffer_limits(high=0)
            paused = paused or transport.get_write_buffer_size() > 0
        else:
            transport.set_write_buffer_limits(high=self._settings.subscriber_buffer_bytes)
        # Without this limit, the kernel's send buffer would grow to megabytes before the server notices that a reader
        # is slow. The option is set for TCP sockets only, not for Unix sockets.
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._settings.subscriber_sndbuf_bytes)
        return StreamTransport(transport, paused, _share(sock) if plain else None)

    def cut_short(self) -> None:
        self._cycle.disconnected = True  # otherwise Uvicorn logs that a response was not completed
        self._protocol.transport.close()


def _share(sock: socket.socket) -> socket.socket:
    """Returns a second socket object for the descriptor of a transport's socket.

    The subscriber that gets this object detaches it at the end, and never closes it. If the subscriber only dropped the
    object, Python would close the descriptor, which may belong to another connection by then."""
    shared = socket.socket(sock.family, sock.type, sock.proto, sock.fileno())
    # A new socket object has Python's default timeout, which lets a write to a full socket block the event loop.
    shared.setblocking(False)
    return shared

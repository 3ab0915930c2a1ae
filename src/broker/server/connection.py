"""One connection: Uvicorn's HTTP protocol with the edge's limits, and the hand-over that makes a stream of it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from broker.addresses import canonical
from broker.errors import BadRequest, BrokerError, HeadTooLarge, RequestTimeout
from broker.live.subscriber import Subscriber
from broker.server.admission import Edge
from broker.settings import Settings
from broker.web.problems import encode_problem
from broker.web.stream import HANDOVER

# What of a request is being received
_NOTHING, _HEAD, _BODY = range(3)
_PIPELINED_MAX = 32  # requests behind one that is not answered yet; a client that sends more is closed


class _Parser(httptools.HttpRequestParser):
    """Declines every offer to go on in another protocol (RFC 9110, section 7.8: a server may ignore ``Upgrade``).

    Java's HttpClient and ``curl --http2`` make such an offer with each request in clear text. httptools takes it for
    accepted: it skips the body and stops behind the head. So the head is put together again without the offer, and
    parsed as if that had never been made."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._begin()

    def _begin(self) -> None:
        super().__init__(self._protocol)
        # As Uvicorn does: a request may be pipelined behind one that asks for the connection to be closed.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes) -> None:  # type: ignore[override] # what asyncio's transports give
        while True:
            try:
                super().feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:  # its argument: how much of the data is read
                data = self._protocol.head_without_offer() + data[offer.args[0] :]
                self._begin()  # behind an HTTP/1.0 request it would pass over all that comes


class Protocol(HttpToolsProtocol):
    """Gives a stream's connection away once its head is written, writes HTTP/1.0 right, and ends what is too slow.

    Mutable state, beside Uvicorn's: what of a request is being received; the bytes of it that came since a time; those
    since the last that were a body's."""

    def __init__(self, *args: Any, edge: Edge, **more: Any) -> None:
        super().__init__(*args, **more)
        self.parser = _Parser(self)
        self._edge = edge
        self._address: str | None = None  # while the edge counts it
        self._receiving = _HEAD
        self._since = self.loop.time()
        self._bytes = 0
        self._unread = 0
        self._paused_at = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as Uvicorn's
        super().connection_made(transport)
        if self.client is not None:
            # Here, so that limits, trusted proxies, metrics and the log all see one address: a socket that listens on
            # both IPv6 and IPv4 gives an IPv4 address as ::ffff:192.0.2.1.
            self.client = (canonical(self.client[0]), self.client[1])
        if self._address is None and not self.enter(self.client[0] if self.client else ""):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.leave()

    def enter(self, address: str) -> bool:
        """Has the edge count it, if that is not done yet; False if it is one too many."""
        self._address = address
        return self._edge.enter(address)

    def leave(self) -> None:
        if self._address is not None:
            self._edge.leave(self._address)
            self._address = None

    def data_received(self, data: bytes) -> None:
        if self._receiving == _NOTHING:
            self._receives(_HEAD)
        self._bytes += len(data)
        self._unread += len(data)
        super().data_received(data)
        limit = self._edge.settings.head_bytes_max
        if self._receiving != _NOTHING and self._unread > limit and self.parser is not None:
            self._refuse(HeadTooLarge(f"the head of the request is larger than {limit} bytes (head_bytes_max)"))

    def _receives(self, what: int) -> None:
        self._receiving = what
        self._since = self.loop.time()
        self._bytes = self._unread = 0

    def on_message_begin(self) -> None:
        if self._receiving != _HEAD:  # one that is pipelined
            self._receives(_HEAD)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._receiving == _HEAD:  # what comes behind the body is of no use to anybody
            super().on_header(name, value)

    def head_without_offer(self) -> bytes:
        """The head that was just read, but for its ``Upgrade`` header, without which it offers nothing."""
        lines = [b"%b %b HTTP/%b" % (self.scope["method"].encode(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":  # which is such an offer by itself
                raise ValueError("this is no proxy")
            self.scope["method"] = self.parser.get_method().decode()
            return  # the head comes again
        self._receives(_BODY)
        if len(self.pipeline) >= _PIPELINED_MAX:
            raise ValueError("too many requests at once")  # ends the parser's work; then see send_400_response
        super().on_headers_complete()
        # The task of this request has been made, but has not run yet.
        if self._may_stream():
            self.scope["extensions"] = {HANDOVER: Handover(self, self.cycle)}  # type: ignore[dict-item] # ours

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._receiving = _NOTHING
        super().on_message_complete()

    def _may_stream(self) -> bool:
        return b"/events" in self.url  # only to spare the others the work: the route decides

    def pause_writing(self) -> None:
        self._paused_at = self.loop.time()
        super().pause_writing()

    def look(self, now: float) -> None:
        """See ``edge.Connection``."""
        settings = self._edge.settings
        if self.transport is None or self.transport.is_closing():
            return
        if self.flow.write_paused and now - self._paused_at > settings.subscriber_stall_s:
            self.transport.abort()  # nobody reads the answer
        elif self.flow.read_paused:
            self._since, self._bytes = now, 0  # our own doing
        elif self._receiving == _HEAD and now - self._since > settings.head_timeout_s:
            if self._bytes:
                self._refuse(RequestTimeout(f"the head of the request took over {settings.head_timeout_s:g} seconds"))
            else:
                self.transport.close()
        elif self._receiving == _BODY:
            passed_s = now - self._since
            if passed_s <= settings.head_timeout_s:
                return
            if self._bytes >= passed_s * settings.body_rate_min:
                self._since, self._bytes = now, 0
            else:
                self._refuse(
                    RequestTimeout(
                        f"the body comes slower than {settings.body_rate_min} bytes a second (body_rate_min)"
                    )
                )

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so in the same form as every other error."""
        self._refuse(BadRequest("what came is not HTTP/1.1; the connection is closed"))

    def _refuse(self, problem: BrokerError) -> None:
        """Ends the connection; with an answer, unless it would get into the middle of another one."""
        free = self.cycle is None or self.cycle.response_complete
        if free or (self._receiving == _BODY and not self.pipeline and not self.cycle.response_started):
            body = encode_problem(problem)
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/problem+json\r\nvary: Origin\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%b"
                % (problem.status, problem.title.encode(), len(body), body)
            )
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override] # wider
        if cycle.scope["http_version"] == "1.0":
            app = _without_chunks(app, cycle)
        if not self._may_stream():
            app = _in_one_write(app, cycle)
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type] # Starlette's and Uvicorn's names for one thing


class Handover:
    """Makes a subscriber the protocol of its connection; Uvicorn's parser, cycle, task and scope are freed.

    Holds the stream's own cycle: a request pipelined behind ``GET /events`` has replaced the protocol's."""

    def __init__(self, protocol: HttpToolsProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self.chunked = cycle.scope["http_version"] != "1.0"
        self.last_chunk = not cycle.keep_alive  # by what the client asked for: a stop of the server changes it later

    def take(self, subscriber: Subscriber, settings: Settings) -> bool:
        protocol, cycle = self._protocol, self._cycle
        transport = protocol.transport
        if cycle.disconnected or transport.is_closing():
            cycle.disconnected = True  # or Uvicorn would log an answer that was not completed
            return False
        paused = protocol.flow.write_paused  # the new protocol would not be told
        protocol.pipeline.clear()  # what was asked behind an endless answer will never be answered
        protocol.flow.resume_reading()  # paused for that; unread, a closed connection would go unnoticed
        cycle.disconnected = True  # nothing more is sent or awaited by it
        cycle.message_event.set()
        # With an exception: without one it would close the transport.
        protocol.connection_lost(ConnectionError("handed over"))
        transport.set_protocol(subscriber)
        sock = transport.get_extra_info("socket")
        plain = transport.get_extra_info("sslcontext") is None
        if plain:
            transport.set_write_buffer_limits(high=0)
            paused = paused or transport.get_write_buffer_size() > 0
        else:
            transport.set_write_buffer_limits(high=settings.subscriber_buffer_bytes)
        # Else the kernel's buffer grows to megabytes before a slow reader shows. Not for Unix sockets.
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.subscriber_sndbuf_bytes)
        subscriber.take(transport, paused=paused, direct=_share(sock) if plain else None)
        return True

    def cut_short(self) -> None:
        self._cycle.disconnected = True  # or Uvicorn would log an answer that was not completed
        self._protocol.transport.close()


def _share(sock: socket.socket) -> socket.socket:
    """A second object on the descriptor of a transport's socket. Whoever holds it lets go of the descriptor and never
    closes it, as the subscriber does: if it were only dropped, the next connection would lose its descriptor."""
    shared = socket.socket(sock.family, sock.type, sock.proto, sock.fileno())
    shared.setblocking(False)  # else it has the program's default timeout, and a full one would stop the loop for it
    return shared


class _Joined:
    """What of a transport Uvicorn uses for an answer; its pieces leave together."""

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

    def is_closing(self) -> bool:
        return self._transport.is_closing()


def _in_one_write(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """Uvicorn writes the head and the body apart: two system calls, and two wake-ups of the client."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        head: Message | None = None

        async def joined(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
            elif head is None:
                await send(message)
            else:
                transport, start = cycle.transport, head
                head = None
                cycle.transport = both = _Joined(transport)  # type: ignore[assignment] # all that a cycle uses of it
                try:
                    await send(start)
                    await send(message)
                finally:
                    cycle.transport = transport
                    both.flush()

        try:
            await app(scope, receive, joined)
        except BrokerError:  # the store failed halfway; it has told the log
            cycle.disconnected = True
            cycle.transport.abort()  # so that nobody takes half an answer for a whole one

    return wrapped


def _without_chunks(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """HTTP/1.0 has no chunks, which Uvicorn sends all the same: without a length the end of the connection is the end
    of the body."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def plain(message: Message) -> None:
            if message["type"] == "http.response.start":
                if not any(name.lower() == b"content-length" for name, _ in message["headers"]):
                    cycle.chunked_encoding = False
            elif cycle.chunked_encoding is False and cycle.expected_content_length == 0:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, plain)

    return wrapped

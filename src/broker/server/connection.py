"""One connection: Uvicorn's HTTP protocol, with limits for slow and large requests, and streams that leave HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from broker.addresses import canonical
from broker.errors import BadRequest, BrokerError, encode_problem
from broker.live.handover import EXTENSION
from broker.server.admission import Admission
from broker.server.handover import ConnectionHandover
from broker.server.receiving import Part, Receiving
from broker.server.responses import in_one_write, without_chunks

_PIPELINED_MAX = 32  # requests behind one that is not answered yet; a client that sends more is closed


class _Parser(httptools.HttpRequestParser):
    """Declines every offer to continue in another protocol (RFC 9110, section 7.8: a server may ignore ``Upgrade``).

    Java's HttpClient and ``curl --http2`` make such an offer with each request in clear text. httptools treats it as
    accepted: it skips the body, and stops behind the headers. So the headers are put together again without the offer,
    and parsed as if it had never been made."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reset()

    def _reset(self) -> None:
        super().__init__(self._connection)
        # As in Uvicorn: a request may be pipelined behind one that asks for the connection to be closed.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes) -> None:  # type: ignore[override] # what asyncio's transports give
        while True:
            try:
                super().feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:  # its argument: how much of the data was read
                data = self._connection.headers_without_offer() + data[offer.args[0] :]
                self._reset()  # otherwise it ignores all that comes behind an HTTP/1.0 request


class Connection(HttpToolsProtocol):
    """From its first byte to its end, or until it is handed over to a subscriber.

    Mutable state, beside Uvicorn's: the address under which it is counted, what is being received, and since when its
    client reads nothing."""

    def __init__(self, *args: Any, admission: Admission, **more: Any) -> None:
        super().__init__(*args, **more)
        self.parser = _Parser(self)
        self._admission = admission
        self._address: str | None = None  # None: it is not counted
        self._receiving = Receiving(admission.settings, self.loop.time())
        self._write_paused_at = 0.0
        self._refusal: BrokerError | None = None  # why the parser was stopped, if it was not for what it parsed

    # Its life

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
        """Counts it, unless that was done before a TLS handshake; False if it is one too many."""
        self._address = address
        return self._admission.enter(address)

    def leave(self) -> None:
        if self._address is not None:
            self._admission.leave(self._address)
            self._address = None

    # Receiving a request

    def data_received(self, data: bytes) -> None:
        self._receiving.received(len(data), self.loop.time())
        super().data_received(data)
        # The parser is gone if the connection was handed over or lost meanwhile.
        if self.parser is not None and (problem := self._receiving.too_large()):
            self._refuse(problem)

    def on_url(self, url: bytes) -> None:
        self._receiving.headers(len(url))
        super().on_url(url)

    def on_message_begin(self) -> None:
        if self._receiving.part is not Part.HEADERS:  # a request that is pipelined behind another one
            self._receiving.begin(Part.HEADERS, self.loop.time())
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._receiving.part is Part.HEADERS:  # trailers, which come behind the body, are ignored
            self._receiving.headers(len(name) + len(value))
            super().on_header(name, value)

    def headers_without_offer(self) -> bytes:
        """The headers that were just read, without ``Upgrade``: then they offer nothing."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_headers_complete(self) -> None:
        self._refusal = self._receiving.headers_too_large()
        if self._refusal is not None:
            raise ValueError("too large")  # stops the parser, and Uvicorn calls send_400_response
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":  # that is such an offer by itself
                self._refusal = BadRequest("CONNECT is for proxies, and Broker is none")
                raise ValueError("no proxy")
            return  # the headers come again: see _Parser
        self._receiving.begin(Part.BODY, self.loop.time())
        if len(self.pipeline) >= _PIPELINED_MAX:
            raise ValueError("too many requests at once")
        super().on_headers_complete()
        # The task of this request has been created, but has not run yet.
        if _may_be_a_stream(self.cycle):
            offer = ConnectionHandover(self, self.cycle, self._admission.settings)
            self.scope["extensions"] = {EXTENSION: offer}  # type: ignore[dict-item] # ours

    def on_body(self, body: bytes) -> None:
        self._receiving.parsed()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._receiving.complete()
        super().on_message_complete()

    # Limits

    def pause_writing(self) -> None:
        self._write_paused_at = self.loop.time()
        super().pause_writing()

    def check(self, now: float) -> None:
        """See ``admission.Checked``."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.flow.write_paused and now - self._write_paused_at > self._admission.settings.subscriber_stall_s:
            self.transport.abort()  # nobody reads the response
        elif self.flow.read_paused:
            self._receiving.restart_clock(now)  # the client cannot send, because we do not read
        elif problem := self._receiving.too_slow(now):
            if self._receiving.silent:
                self.transport.close()  # it asked for nothing, and gets no response
            else:
                self._refuse(problem)

    def send_400_response(self, msg: str) -> None:
        """Called by Uvicorn when the parser stopped; what came is refused in the same form as everything else."""
        self._refuse(self._refusal or BadRequest("what came is not HTTP/1.1; the connection is closed"))

    def _refuse(self, problem: BrokerError) -> None:
        """Closes the connection; with a response, unless that would get into the middle of another one."""
        free = self.cycle is None or self.cycle.response_complete
        waiting = self._receiving.part is Part.BODY and not self.pipeline and not self.cycle.response_started
        if free or waiting:
            body = encode_problem(problem)
            self.transport.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/problem+json\r\nvary: Origin\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%b"
                % (problem.status, problem.title.encode(), len(body), body)
            )
        self.transport.close()

    # Sending a response

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override] # wider
        if cycle.scope["http_version"] == "1.0":
            app = without_chunks(app, cycle)
        if not _may_be_a_stream(cycle):
            app = in_one_write(app, cycle)
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type] # Starlette's and Uvicorn's names for one thing


def _may_be_a_stream(cycle: RequestResponseCycle) -> bool:
    """Only to spare other requests the work: the route decides. By the request's own path, because the connection's
    ``url`` is that of the request that was parsed last, which may be pipelined behind this one."""
    return b"/events" in cycle.scope["raw_path"]

"""Serves one connection: Uvicorn's HTTP protocol, with limits for slow and large requests, and a way to hand a
connection over to a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, cast

import httptools
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from broker.addresses import canonical
from broker.errors import BadRequest, BrokerError, encode_problem
from broker.live.handover import EXTENSION
from broker.live.subscriber import unsent
from broker.server.admission import Admission
from broker.server.direct import BODY_BYTES_MAX, WAIT_S, DirectRequest, KnownHeads, encode, inserts, opens_stream
from broker.server.handover import ConnectionHandover
from broker.server.receiving import Part, Receiving
from broker.server.responses import adapted
from broker.web.direct import Begun, Direct, PreparedStream
from broker.web.requests import Response

_PIPELINED_MAX = 32  # requests that wait after an unanswered one; the connection is closed if there are more


class Connection(HttpToolsProtocol):
    """Handles a connection from its first byte to its end, or until it is handed over to a subscriber. A request to
    insert that arrives whole is answered without ASGI (``direct.py``); until then it is in ``_direct``.

    Mutable state, in addition to Uvicorn's: the address under which the connection is counted (``_address``), the
    progress of the request that is being received (``_receiving``), the time since which a client that should read has
    read nothing (``_write_paused_at``) and how many bytes it had not read then (``_unsent``), the reason if a
    request was refused while it was parsed (``_refusal``), the time of the last response (``_idle_since``), the request
    to insert that is being received (``_direct``), with the timer that gives it to ASGI (``_waiting``), the heads of
    requests to insert that this connection has sent (``_known``), and the stream to open when the parser has returned
    (``_opening``)."""

    def __init__(self, *args: Any, admission: Admission, direct: Direct | None = None, **more: Any) -> None:
        """``direct`` is None if all requests go to ASGI."""
        super().__init__(*args, **more)
        self._admission = admission
        self._insert = direct and direct.insert
        self._stream = direct and direct.stream
        self._opening: tuple[DirectRequest, PreparedStream] | None = None
        self._direct: DirectRequest | None = None
        self._known: KnownHeads | None = None  # None: none yet
        self._idle_since = 0.0
        self._waiting: asyncio.TimerHandle | None = None
        self._address: str | None = None  # None: the connection is not counted
        self._receiving = Receiving(admission.settings, self.loop.time())
        self._write_paused_at = 0.0
        self._unsent = 0
        self._refusal: BrokerError | None = None  # if set: the error to respond with when the parser stops

    # Start and end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # the same type as in Uvicorn's method
        super().connection_made(transport)
        if self.client is not None:
            # A socket that listens on both IPv6 and IPv4 reports an IPv4 address as ::ffff:192.0.2.1. It is converted
            # here, so that limits, trusted proxies, metrics and the log all use the same form of the address.
            self.client = (canonical(self.client[0]), self.client[1])
        if self._address is None and not self.enter(self.client[0] if self.client else ""):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_direct()
        super().connection_lost(exc)
        self.leave()

    def enter(self, address: str) -> bool:
        """Counts the connection. Returns False if a limit is exceeded.

        With TLS, this is called before the handshake, and ``connection_made`` does not call it a second time."""
        self._address = address
        return self._admission.enter(address)

    def leave(self) -> None:
        if self._address is not None:
            self._admission.leave(self._address)
            self._address = None

    # Receiving a request

    def data_received(self, data: bytes) -> None:
        if self._known is not None and self._receive_known(data):
            return
        begins = self._receiving.idle
        self._receiving.received(len(data), self.loop.time())
        before = self.cycle
        try:
            self._parse(data)
        except httptools.HttpParserError:
            refusal = self._refusal or BadRequest("the data received is not HTTP/1.1; the connection is closed")
            self.logger.warning("a request is refused: %s", refusal)
            self._refuse(refusal)
            return
        if self._opening is not None:
            self._open_stream(*self._opening)
            return
        if self._direct is not None and self._waiting is None:
            self._waiting = self.loop.call_later(WAIT_S, self._give_to_asgi)
        request: object = self.cycle
        if begins and request is not before and isinstance(request, DirectRequest):
            self._known = self._known or KnownHeads()
            self._known.learn(data, request, self.headers)
        # The parser is None if the connection was handed over or lost in the meantime.
        if self.parser is not None and (problem := self._receiving.too_large()):
            self._refuse(problem)

    def _parse(self, data: bytes) -> None:
        """Gives the data to the parser, and ignores every offer of the client to switch to another protocol (RFC 9110,
        section 7.8: a server may ignore ``Upgrade``).

        Java's HttpClient and ``curl --http2`` make such an offer with each request that is not encrypted. httptools
        treats the offer as accepted: it skips the body, and stops after the headers. So the headers are rebuilt without
        the offer, and parsed again as if the client had not made it."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:  # its argument: how many bytes of the data were read
                data = self._headers_without_offer() + data[offer.args[0] :]
            # A new parser, because the old one ignores all data after an HTTP/1.0 request.
            self.parser = httptools.HttpRequestParser(self)
            # As in Uvicorn: after a request with ``Connection: close``, the client may have pipelined another one.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def on_message_begin(self) -> None:
        # The part is HEADERS already, unless this request arrived together with the end of the request before it.
        if self._receiving.part is not Part.HEADERS:
            self._receiving.begin(Part.HEADERS, self.loop.time())
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._receiving.part is Part.HEADERS:  # trailers, which come after the body, are ignored
            super().on_header(name, value)

    def _headers_without_offer(self) -> bytes:
        """Returns the request line and the headers that were just read, without ``Upgrade``, so without the offer."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        self._refusal = self._receiving.too_large(headers=size)
        if self._refusal is not None:
            raise ValueError("too large")  # stops the parser: see data_received
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":  # httptools treats CONNECT as an offer, too
                self._refusal = BadRequest("CONNECT is for proxies, and Broker is not a proxy")
                raise ValueError("no proxy")
            return  # the headers will be parsed again: see _parse
        self._receiving.begin(Part.BODY, self.loop.time())
        if len(self.pipeline) >= _PIPELINED_MAX:
            raise ValueError("too many requests at once")
        if self._is_direct():
            scope = cast(Scope, self.scope)
            scope["method"], scope["path"] = "POST", "/insert"
            assert self._insert is not None
            prepared = self._insert.prepare(scope)
            self._direct = DirectRequest(scope, prepared, self.parser.should_keep_alive())
            return
        if self._is_direct_stream():
            return
        super().on_headers_complete()
        # The response may be a stream: only the route decides that, and the check saves work for requests that cannot
        # be streams. The task of this request has been created, but has not run yet, so its scope can still be changed.
        if b"/events" in self.cycle.scope["raw_path"]:
            offer = ConnectionHandover(self, self.cycle, self._admission.settings)
            self.scope["extensions"] = {EXTENSION: offer}  # type: ignore[dict-item] # Uvicorn's type for an extension is a dict

    def on_body(self, body: bytes) -> None:
        self._receiving.parsed()
        request = self._direct
        if request is None:
            super().on_body(body)
        else:
            request.body += body
            if len(request.body) > BODY_BYTES_MAX:
                self._give_to_asgi()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._receiving.complete()
        cycle: object = self.cycle
        if self._opening is not None and self._opening[0] is cycle:
            return
        if self._direct is None:
            super().on_message_complete()
        else:
            self._start_direct()

    # Requests that are answered without ASGI

    def _is_direct(self) -> bool:
        """Returns whether the request whose headers are complete inserts without ASGI."""
        return self._insert is not None and inserts(self.url, self.parser, self.headers)

    def _is_direct_stream(self) -> bool:
        """Returns whether the request whose headers are complete opens a stream without ASGI. Then that is done when
        the parser has returned, because the connection has no parser from then on."""
        free = self.cycle is None or self.cycle.response_complete
        if self._stream is None or not free or not opens_stream(self.url, self.parser, self.headers):
            return False
        scope = cast(Scope, self.scope)
        path, _, query = self.url.partition(b"?")
        scope["method"], scope["path"], scope["raw_path"], scope["query_string"] = "GET", "/events", path, query
        prepared = self._stream.prepare(scope)
        if prepared is None:
            return False
        request = DirectRequest(scope, None, True, more_body=False)
        self._opening = request, prepared
        self.cycle = request  # type: ignore[assignment] # it has the attributes that are used
        return True

    def _open_stream(self, request: DirectRequest, prepared: PreparedStream) -> None:
        assert self._stream is not None
        self._opening = None
        request.response_started = True
        self._stream.connect(prepared, ConnectionHandover(self, request, self._admission.settings))

    def _start_direct(self) -> None:
        """Answers the request, after those before it."""
        request = self._direct
        assert request is not None
        self._forget_direct()
        request.more_body = False
        before, self.cycle = self.cycle, request  # type: ignore[assignment] # it has the attributes that are used
        if before is None or before.response_complete:
            self._answer_soon(request)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((request, self.app))  # type: ignore[arg-type] # see ``_start_asgi_task``

    def _give_to_asgi(self) -> None:
        """Gives the request that is being received to ASGI, with what has arrived of its body."""
        request = self._direct
        assert request is not None
        self._forget_direct()
        super().on_headers_complete()
        if request.body:
            super().on_body(request.body)

    def _forget_direct(self) -> None:
        self._direct = None
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _receive_known(self, data: bytes) -> bool:
        """Receives a request to insert whose head is known. Returns False if ``data`` is anything else, or if another
        request is not answered yet."""
        assert self._known is not None
        before = self.cycle
        if self._receiving.part is not Part.NOTHING or not before.response_complete or not before.keep_alive:
            return False
        request = self._known.find(data)
        if request is None:
            return False
        self.cycle = request  # type: ignore[assignment] # it has the attributes that are used
        self._answer_soon(request)
        return True

    def _answer_soon(self, request: DirectRequest) -> None:
        """Begins the work, which responds when it is done."""
        assert self._insert is not None
        begun = None if request.prepared is None else self._insert.begin(request.prepared, request.body)
        # As for the tasks of ASGI: when the server stops, it waits for them, and cancels them in the end.
        if begun is not None:
            self.tasks.add(begun.future)  # type: ignore[arg-type] # a future has the method that is used
            begun.future.add_done_callback(partial(self._stored, request, begun))
        else:
            self._run_task(self._answer(request))

    def _stored(self, request: DirectRequest, begun: Begun, future: asyncio.Future[Any]) -> None:
        assert self._insert is not None
        self.tasks.discard(future)
        response = self._insert.end(begun)
        if self.flow.write_paused and not request.disconnected:
            self._run_task(self._respond_later(request, response))
        else:
            self._respond(request, response)

    async def _answer(self, request: DirectRequest) -> None:
        assert self._insert is not None
        await self._respond_later(request, await self._insert.answer(request.scope, request.body))

    async def _respond_later(self, request: DirectRequest, response: Response) -> None:
        """Responds when the client has read enough of the responses before this one."""
        if not request.disconnected:
            await self.flow.drain()
        self._respond(request, response)

    def _run_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _respond(self, request: DirectRequest, response: Response) -> None:
        if request.disconnected or self.transport.is_closing():
            return
        request.response_started = request.response_complete = True
        default_headers = self.server_state.default_headers
        self.transport.write(encode(response, default_headers, keep_alive=request.keep_alive))
        if not request.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """Does the same as Uvicorn's method, except that ``check`` closes idle connections, without a timer for each
        response."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)  # type: ignore[arg-type] # each has its own type of an app
        else:
            self._idle_since = self.loop.time()

    # Limits

    def pause_writing(self) -> None:
        self._write_paused_at, self._unsent = self.loop.time(), unsent(self.transport)
        super().pause_writing()

    def shutdown(self) -> None:
        if self._direct is not None:  # it has begun to arrive, so it is answered
            self._give_to_asgi()
        super().shutdown()

    def check(self, now: float) -> None:
        """Ends the connection if it is too slow. ``now`` is in seconds of the loop's clock."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.flow.write_paused and self._stalls(now):
            self.transport.abort()  # the client does not read the response
        elif self.flow.read_paused:
            self._receiving.restart_clock(now)  # the client cannot send, because we do not read
        elif self._receiving.part is Part.NOTHING and self.cycle.response_complete:
            if now - self._idle_since > self.timeout_keep_alive:
                self.transport.close()
        elif problem := self._receiving.too_slow(now):
            if self._receiving.silent:
                self.transport.close()  # the client sent no request, so it gets no response
            else:
                self._refuse(problem)

    def _stalls(self, now: float) -> bool:
        """Returns whether the client has read nothing for too long. Nothing is written while writing is paused, so each
        byte that it reads makes ``unsent`` smaller."""
        left = unsent(self.transport)
        if left < self._unsent:
            self._write_paused_at, self._unsent = now, left
        return now - self._write_paused_at > self._admission.settings.subscriber_stall_s

    def _refuse(self, problem: BrokerError) -> None:
        """Closes the connection. Responds with the problem first, unless that would disturb another response."""
        self._forget_direct()
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

    def _start_asgi_task(self, cycle: RequestResponseCycle | DirectRequest, app: ASGIApp) -> None:  # type: ignore[override] # Starlette's type
        if isinstance(cycle, DirectRequest):
            self._answer_soon(cycle)
            return
        super()._start_asgi_task(cycle, adapted(app, cycle))  # type: ignore[arg-type] # Starlette and Uvicorn have a type each


class OperatorConnection(Connection):
    """A connection over the operator's socket. It counts for no limit: when the server is full, its operator must be
    able to act."""

    def enter(self, address: str) -> bool:
        return True

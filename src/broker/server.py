"""Owns ``uvicorn.Server``: the order of start and stop, and the protocol that hands a stream over."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from broker.broker import Broker
from broker.errors import BadRequest, SettingsError
from broker.settings import Settings, read_settings
from broker.subscriber import Subscriber
from broker.web.app import App
from broker.web.problems import encode_problem
from broker.web.stream import HANDOVER

logger = logging.getLogger("broker.server")


async def broker_run(*origins: str, **settings: Any) -> None:
    """Serves until SIGTERM or Ctrl-C, for pages of the given origins.

    ``settings`` are those of ``Settings``, by name; the rest comes from the environment. Raises SettingsError."""
    set_up_logging(verbose=False)
    if origins:
        settings["origin"] = origins
    await serve(read_settings(settings))


def set_up_logging(*, verbose: bool) -> None:
    """To standard error, unless the program that Broker is part of has set up its own."""
    if logging.getLogger().handlers:
        return
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of each client that speaks no HTTP


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises SettingsError."""
    raise_file_limit()
    gc.freeze()  # what is loaded by now stays: no need to look at it in each collection
    broker = Broker(settings)
    listener = _listen(settings)
    with contextlib.closing(listener):
        await broker.start()
        try:
            config = uvicorn.Config(
                App(broker),
                http=Protocol,
                ws="none",
                lifespan="off",
                loop="none",
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
                backlog=settings.backlog,
                timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
            )
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            scheme = "https" if settings.tls_certificate else "http"
            await Server(config, broker, f"{scheme}://{shown}:{port}").serve([listener])
        finally:
            await broker.stop()


def _listen(settings: Settings) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; "
            "stop what is there, or choose another --port"
        ) from None
    return listener


def raise_file_limit() -> None:
    """To the hard limit: each stream is an open file, and the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:  # macOS says "unlimited" and means less
        logger.warning("the limit of open files stays at %d: %s", soft, error)


class Server(uvicorn.Server):
    """Uvicorn waits for open connections before anything else, and a stream is never done: the hub goes first."""

    def __init__(self, config: uvicorn.Config, broker: Broker, address: str) -> None:
        super().__init__(config)
        self._broker = broker
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        logger.info("Broker serves on %s (Ctrl-C stops it); data in %s", self._address, self._broker.settings.data)
        logger.info("its API to read: %s/docs", self._address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logger.info("stopping")
        for listener in self.servers:
            listener.close()
        closing = asyncio.ensure_future(self._broker.close_streams())
        await super().shutdown(sockets)  # requests under way are answered, within the grace
        await closing

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A stop by signal is a clean one: Uvicorn would raise the signal again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, that gives a stream's connection away once its head is written, and writes HTTP/1.0 right."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        # The task of this request has been made, but has not run yet.
        if self._may_stream():
            self.scope["extensions"] = {HANDOVER: Handover(self, self.cycle)}  # type: ignore[dict-item] # ours

    def _may_stream(self) -> bool:
        return b"/events" in self.url  # only to spare the others the work: the route decides

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so in the same form as every other error, and the connection ends."""
        body = encode_problem(BadRequest("what came is not HTTP/1.1; the connection is closed"))
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nvary: Origin\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
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

        await app(scope, receive, joined)

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

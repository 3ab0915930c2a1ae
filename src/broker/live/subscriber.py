"""One open stream. After the response headers are written, the subscriber is the asyncio protocol of the stream's
connection, and writes to it directly."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import sys
import termios
from typing import Any, NamedTuple, Protocol

from broker import sse
from broker.live.reader import ANONYMOUS, Reader
from broker.live.subscription import Subscription
from broker.settings import KIB

logger = logging.getLogger("broker.stream")

_SLICE = 64 * KIB
_NOTHING = memoryview(b"")


class Transport(Protocol):
    """The methods of an asyncio transport that a subscriber needs. ``web/stream.py`` implements them with ASGI's
    ``send``."""

    def write(self, data: bytes | memoryview, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def get_extra_info(self, name: str, /) -> Any: ...


def unsent(transport: Transport) -> int:
    """Returns how many of the bytes that were written the reader has not acknowledged. They are in the transport's
    buffer, and in the kernel's send buffer, which only Linux can be asked about.

    The kernel accepts more bytes only when a large part of its buffer is free. So the progress of a slow reader is
    visible in the kernel's buffer long before the transport's buffer becomes smaller."""
    sock = transport.get_extra_info("socket")
    queued = 0
    if sock is not None and sys.platform == "linux" and sock.fileno() >= 0:
        queued = int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return transport.get_write_buffer_size() + queued


class StreamTransport(NamedTuple):
    """The connection that a subscriber writes to, as it is when the subscriber becomes its protocol."""

    transport: Transport
    # Whether the transport is full already. If it is, it has called ``pause_writing`` before ``connected`` is called:
    # on its previous protocol, or on the subscriber, when the limits of its buffer were lowered during the handover.
    # It does not call it again before it has called ``resume_writing``.
    paused: bool = False
    # The transport's socket, for sending directly on it. None, unless the transport sends bytes unchanged (no TLS), and
    # pauses as soon as it buffers any bytes. Never close this socket: its descriptor belongs to the transport.
    direct: socket.socket | None = None


class Owner(Protocol):
    """The object that a subscriber notifies of changes of its connection. It is the hub."""

    def fell_behind(self, subscriber: Subscriber) -> None:
        """Called when the connection of a live subscriber accepts no more bytes for now."""
        ...

    def closed(self, subscriber: Subscriber) -> None:
        """Called once, when the subscriber's connection is closed."""
        ...


class Subscriber(asyncio.Protocol):
    """A subscriber is in one of these states:

    * **behind**: a catch-up task writes the missing frames to it, and ``position`` is how far that task has come;
    * **live**: it is a member of one of the hub's groups, and the hub writes to it; it has no task of its own;
    * **paused**, together with one of the two above: the connection accepts no more bytes for now. When a live
      subscriber is paused, it becomes behind;
    * **ending**: it will be closed when the bytes already given to it are written;
    * **closed**.

    Mutable state: all of its fields. Only its own methods change them, and these methods are synchronous. They are
    called by callbacks of the event loop, by the hub and by the catch-up."""

    __slots__ = (
        "_direct", "_drained", "_ended", "_ending", "_owner", "_unwritten", "client_key", "closed", "group",
        "logged_out", "paused", "position", "reader", "reset_at", "rights_changed", "subscription", "transport",
    )  # fmt: skip

    def __init__(
        self, owner: Owner, subscription: Subscription, client_key: str = "", reader: Reader = ANONYMOUS
    ) -> None:
        self._owner = owner
        self.reader = reader
        self.client_key = client_key  # the key under which the hub counts the streams of this client
        self.subscription = subscription
        self.transport: Transport
        self._direct: socket.socket | None = None
        # While the subscriber is behind, every frame up to this position was written to it. While the subscriber is
        # live, this is the position at which it became live.
        self.position = 0
        self.group: object | None = None  # the subscriber's group while it is live; only the hub knows the type
        self.paused = False
        self.closed = False
        self._drained: asyncio.Future[None] | None = None
        self._unwritten = _NOTHING  # bytes not yet given to the transport; empty unless the transport is paused
        self._ending = False
        self._ended = False  # once it is True, nothing more is written
        # Why the stream ends with ``$login``; empty as long as the token is valid. The catch-up does that before it
        # writes anything else. ``rights_changed``: it starts again with the state that the reader may read now.
        self.logged_out = ""
        self.rights_changed = False
        self.reset_at = float("-inf")  # when it did the latter last, in seconds of the loop's clock

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self.group is not None else f"behind at {self.position}"
        return f"<Subscriber {state}{', paused' if self.paused else ''}>"

    # States

    def connected(self, connection: StreamTransport) -> None:
        """Called when this subscriber becomes the protocol of the connection."""
        self.transport, self.paused, self._direct = connection

    def advance(self, position: int) -> None:
        """Sets the position of a subscriber that is behind, just before or after the frames up to there are written.
        The last bytes of these frames may still be in ``_unwritten``."""
        self.position = position

    def go_live(self, group: object, subscription: Subscription) -> None:
        """``subscription`` is the group's, and equals the subscriber's own. The subscriber keeps the group's object,
        which saves the memory of a copy for each member."""
        self.group = group
        self.subscription = subscription

    def leave_group(self) -> object | None:
        """Removes and returns the reference to the subscriber's group. Returns None if the subscriber is not live."""
        group, self.group = self.group, None
        return group

    # Writing

    def write(self, payload: bytes) -> None:
        """Frames the payload as an HTTP chunk, if this stream is chunked, and writes it. The catch-up calls this. The
        hub frames once for a whole group, and calls ``write_framed``."""
        self.write_framed(sse.chunk(payload) if self.subscription.chunked else payload)

    def write_framed(self, payload: bytes) -> None:
        """Writes bytes that are framed already. This is the hot path: most payloads cost only one system call."""
        if self._ended:
            return
        sent = 0
        # The payload is sent directly on the socket, because ``transport.write`` adds about a sixth to the cost of
        # ``send(2)``. The danger: while the transport is paused, it still holds earlier bytes, and bytes that are sent
        # directly would overtake them. So nothing is sent directly then.
        if self._direct is not None and not self.paused:
            try:
                sent = self._direct.send(payload)
            except OSError:  # the socket is full or dead; the transport finds out which one in ``_write_rest``
                sent = 0
            if sent == len(payload):
                return
        self._unwritten = memoryview(payload)[sent:]
        self._write_rest()

    def _write_rest(self) -> None:
        """Gives the transport one slice at a time until the transport is full. The transport copies or encrypts all
        bytes that it is given, separately for every slow reader. The remaining bytes are not copied: ``_unwritten`` is
        a view of the payload, which the whole group shares."""
        try:
            while True:
                part, self._unwritten = self._unwritten[:_SLICE], self._unwritten[_SLICE:]
                self.transport.write(part)
                if self.paused or not self._unwritten:
                    return
        # uvloop raises if the transport has just been closed; asyncio does not. The danger: the caller may be in the
        # middle of a loop over many subscribers, and an exception from this one would stop the loop. So every exception
        # is caught here.
        except Exception as error:
            logger.debug("%r cannot be written to: %s", self, error)
            self.cut_off()

    async def drained(self, stall_s: float) -> None:
        """Waits until the subscriber is not paused any more, or is closed. Closes it if the reader reads nothing for
        ``stall_s``."""
        while self.paused and not self.closed:
            unsent = self._unsent()
            self._drained = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._drained], timeout=stall_s)
            if self.paused and not self.closed and self._unsent() >= unsent:
                logger.info("%r is closed, because its reader has read nothing for %g s", self, stall_s)
                self.cut_off()

    def _unsent(self) -> int:
        return len(self._unwritten) + unsent(self.transport)

    # The end

    def end(self) -> None:
        """Closes the connection after the bytes already given to the subscriber are written, so that no frame is
        sent in part only."""
        if not self.closed and not self._ended:
            self._ending = True
            if not self._unwritten:
                self._close()

    def _close(self) -> None:
        # A response that lacks its last chunk is an error for a browser, which then drops what the page has not
        # received yet. That would be ``$login`` here, and no resumption would bring it back. Nobody needs to reconnect
        # with a token that is not valid any more, so a stream that is logged out does have its last chunk.
        if self.subscription.chunked and (self.subscription.last_chunk or self.logged_out):
            self.write_framed(sse.LAST_CHUNK)
        self._ending, self._ended = False, True
        self._forget_socket()
        if not self.closed:
            self.transport.close()

    def abort(self) -> None:
        """Closes the connection at once, and drops the bytes that are not written yet. ``connection_lost`` is called
        later."""
        self._forget_socket()
        self.transport.abort()

    def cut_off(self) -> None:
        """Like ``abort``, but the subscriber is in the state *closed* when this returns. So nothing more is written to
        it, not even in this iteration of the event loop."""
        self.abort()
        self._lost()

    def cut_off_if_open(self) -> None:
        if not self.closed:
            self.cut_off()

    def _forget_socket(self) -> None:
        """Drops the socket without closing it, because the transport closes the descriptor. The danger: a later send
        could go to another connection that has got the same descriptor number. asyncio and uvloop both call
        ``connection_lost`` before they close the descriptor, and the socket is dropped there at the latest."""
        if self._direct is not None:
            self._direct.detach()
            self._direct = None

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Ignores the data: the response of a stream does not end, so a request that is pipelined after it is never
        answered."""

    def eof_received(self) -> bool:
        # False makes the transport close the connection. No client closes its sending side and then continues to read
        # the stream.
        return False

    def pause_writing(self) -> None:
        self.paused = True
        if self.group is not None:
            self._owner.fell_behind(self)

    def resume_writing(self) -> None:
        self.paused = False
        if self._unwritten:
            self._write_rest()
        if self.paused or self.closed:
            return
        if self._ending:
            self._close()
        self._notify_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def _lost(self) -> None:
        if not self.closed:
            self.closed = True
            self._unwritten = _NOTHING
            self._forget_socket()
            self._owner.closed(self)
            self._notify_drained()

    def _notify_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

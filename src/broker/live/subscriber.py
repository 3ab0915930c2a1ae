"""One open stream: the asyncio protocol of its own socket, once the headers of the response are written."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import sys
import termios
from typing import Any, NamedTuple, Protocol

from broker import sse
from broker.live.subscription import Subscription
from broker.settings import KIB

logger = logging.getLogger("broker.stream")

_SLICE = 64 * KIB
_NOTHING = memoryview(b"")


class Transport(Protocol):
    """What a subscriber needs of an asyncio transport; ``web/stream.py`` has one on top of ASGI's ``send``."""

    def write(self, data: bytes | memoryview, /) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def get_extra_info(self, name: str, /) -> Any: ...


class StreamTransport(NamedTuple):
    """What a subscriber writes to, from the moment that its connection is handed over to it."""

    transport: Transport
    # The transport is full already. It notified the protocol that it had before, and will not notify the new one.
    paused: bool = False
    # The socket below the transport, if the transport adds nothing to what it is given (no TLS), and pauses as soon as
    # it buffers anything. Whoever has it must never close it: the descriptor is the transport's.
    direct: socket.socket | None = None


class Owner(Protocol):
    """Whom a subscriber notifies of what happens to its connection: the hub."""

    def fell_behind(self, subscriber: Subscriber) -> None:
        """It was live, and its connection takes no more for now."""
        ...

    def closed(self, subscriber: Subscriber) -> None:
        """Its connection is closed. Called once."""
        ...


class Subscriber(asyncio.Protocol):
    """A subscriber is in one of these states:

    * **behind**: a catch-up task writes to it what it has missed; ``position`` is what it has been written so far;
    * **live**: it is a member of a group of the hub, which writes to all members; it has no task of its own;
    * **paused**, in either state: the connection takes no more bytes for now. A live one is behind from then on;
    * **ending**: it is to be closed as soon as what was begun is written;
    * **closed**.

    Mutable state: all of its fields, each changed by its own methods alone, which are synchronous. They are called by
    callbacks of the event loop, by the hub and by the catch-up."""

    __slots__ = (
        "_direct", "_drained", "_ended", "_ending", "_owner", "_unwritten", "client_key", "closed", "group",
        "paused", "position", "subscription", "transport",
    )  # fmt: skip

    def __init__(self, owner: Owner, subscription: Subscription, client_key: str = "") -> None:
        self._owner = owner
        self.client_key = client_key  # the client whose number of streams is limited
        self.subscription = subscription
        self.transport: Transport
        self._direct: socket.socket | None = None
        # Behind: the position up to which everything was written. Live: the position with which it became live.
        self.position = 0
        self.group: object | None = None  # of the hub, while it is live; only the hub knows what it is
        self.paused = False
        self.closed = False
        self._drained: asyncio.Future[None] | None = None
        self._unwritten = _NOTHING  # what the transport has not taken yet; there is some only while it is paused
        self._ending = False
        self._ended = False  # nothing is written any more

    def __repr__(self) -> str:
        state = "closed" if self.closed else "live" if self.group is not None else f"behind at {self.position}"
        return f"<Subscriber {state}{', paused' if self.paused else ''}>"

    # States

    def connected(self, connection: StreamTransport) -> None:
        """The connection belongs to this subscriber from here on."""
        self.transport, self.paused, self._direct = connection

    def advance(self, position: int) -> None:
        """While it is behind: everything up to there is written, or in ``_unwritten``."""
        self.position = position

    def go_live(self, group: object, subscription: Subscription) -> None:
        """``subscription`` equals its own, and is shared by the group, which saves the memory of a copy for each."""
        self.group = group
        self.subscription = subscription

    def leave_group(self) -> object | None:
        """The group of which it was a member, if it was live."""
        group, self.group = self.group, None
        return group

    # Writing

    def write(self, payload: bytes) -> None:
        """For the catch-up. The hub writes to live subscribers itself, what it has framed once for all of a group."""
        self.write_framed(sse.chunk(payload) if self.subscription.chunked else payload)

    def write_framed(self, payload: bytes) -> None:
        """The hot path: for most payloads, one system call and nothing else."""
        if self._ended:
            return
        sent = 0
        # Send on the socket ourselves: ``transport.write`` adds about a sixth to the cost of ``send(2)``. Never while
        # the transport is paused: it still holds earlier bytes, and ours would overtake them.
        if self._direct is not None and not self.paused:
            try:
                sent = self._direct.send(payload)
            except OSError:  # the socket is full, or dead; the transport finds out which when it is given the bytes
                sent = 0
            if sent == len(payload):
                return
        self._unwritten = memoryview(payload)[sent:]
        self._write_rest()

    def _write_rest(self) -> None:
        """Gives the transport one slice at a time until it is full, because it copies or encrypts all that it is given,
        for every slow reader anew. What remains is a view of one payload that the whole group shares."""
        try:
            while True:
                part, self._unwritten = self._unwritten[:_SLICE], self._unwritten[_SLICE:]
                self.transport.write(part)
                if self.paused or not self._unwritten:
                    return
        # uvloop raises if the transport has just been closed, and asyncio does not. Whatever is raised concerns this
        # subscriber alone: the caller is in the middle of a loop over many others, and must be able to continue.
        except Exception as error:
            logger.debug("%r cannot be written to: %s", self, error)
            self.cut_off()

    async def drained(self, stall_s: float) -> None:
        """Returns when it can be written to again, or is closed. Closes it if its reader takes nothing for
        ``stall_s``."""
        while self.paused and not self.closed:
            unsent = self._unsent()
            self._drained = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._drained], timeout=stall_s)
            if self.paused and not self.closed and self._unsent() >= unsent:
                logger.info("%r took nothing for %g s, and is cut off", self, stall_s)
                self.cut_off()

    def _unsent(self) -> int:
        """How many bytes the reader has not acknowledged: here, in the transport, and in the kernel, where that can be
        asked. The kernel accepts more only when a good part of its buffer is free, so that the progress of a slow
        reader shows in the kernel long before it shows here."""
        sock = self.transport.get_extra_info("socket")
        queued = 0
        if sock is not None and sys.platform == "linux" and sock.fileno() >= 0:
            queued = int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return len(self._unwritten) + self.transport.get_write_buffer_size() + queued

    # The end

    def end(self) -> None:
        """Closes the connection as soon as what was begun is written, so that no frame is cut."""
        if not self.closed and not self._ended:
            self._ending = True
            if not self._unwritten:
                self._close()

    def _close(self) -> None:
        if self.subscription.chunked and self.subscription.last_chunk:
            self.write_framed(sse.LAST_CHUNK)
        self._ending, self._ended = False, True
        self._forget_socket()
        if not self.closed:
            self.transport.close()

    def abort(self) -> None:
        """Closes the connection at once, whatever is not written yet. ``connection_lost`` is called later."""
        self._forget_socket()
        self.transport.abort()

    def cut_off(self) -> None:
        """The same, and the subscriber is closed when this returns: nothing more is written to it, even in this
        iteration of the event loop."""
        self.abort()
        self._lost()

    def _forget_socket(self) -> None:
        """Without closing it: the transport closes the descriptor. asyncio and uvloop both call ``connection_lost``
        before they close it, so the number cannot belong to another connection yet."""
        if self._direct is not None:
            self._direct.detach()
            self._direct = None

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Ignored: a request that is pipelined behind a stream will never be answered."""

    def eof_received(self) -> bool:
        return False  # close the transport: nobody closes one half of a stream and continues to read the other

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
